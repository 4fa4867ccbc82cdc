# Every target makes its own .venv from nothing: a python >= 3.11, a C compiler and PyPI suffice.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(abspath $(BIN)):$(PATH)
BUILD := setup.py CMakeLists.txt pyproject.toml $(shell find kernels -type f)

.PHONY: help demo test lint bench sanitize neon wheel-test clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(STAMP)  ## read handwriting on every device, then the same from Spark
	@mkdir -p build
	@$(BIN)/accel demo --save build/demo.npz
	@printf '\nThe same digits in a Spark job with two workers:\n'
	@$(BIN)/python examples/classify_job.py --backend cpu --expect build/demo.npz

test: $(STAMP)  ## all tests, a file of them on each of two cores
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(STAMP)  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy --strict accel spark_bridge

bench: $(STAMP)  ## benchmarks; BENCH=bench/bench_gemm.py picks one
	$(BIN)/python -m pytest -q -o python_files='bench_*.py' -o python_functions='bench_*' \
		$(or $(BENCH),bench)

sanitize: $(STAMP)  ## C tests under the address, undefined-behaviour and thread sanitizers
	@for preset in asan tsan; do \
		$(BIN)/cmake --preset $$preset && $(BIN)/cmake --build --preset $$preset && \
		$(BIN)/ctest --preset $$preset || exit 1; done

neon: $(STAMP)  ## C tests for aarch64 under qemu; they must compute the bits of this machine
	@command -v aarch64-linux-gnu-gcc >/dev/null && \
		{ command -v qemu-aarch64 || command -v qemu-aarch64-static; } >/dev/null || \
		{ echo "make neon needs a cross-compiler and qemu; on Debian or Ubuntu: apt-get install" \
		"gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static" >&2; exit 1; }
	@for preset in tests neon; do \
		$(BIN)/cmake --preset $$preset && $(BIN)/cmake --build --preset $$preset || exit 1; done
	@$(BIN)/ctest --preset neon

wheel-test: $(STAMP)  ## build the wheel and use it from outside the repository
	.ci/wheel_test $(abspath $(BIN)/python)

clean:  ## remove build products, not the environment
	rm -rf build dist *.egg-info

$(STAMP): $(BUILD)
	@test -n "$(PYTHON)" || { echo "no python >= 3.11 found; set PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "installing into $(VENV); the first time takes some minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e ".[all,dev]"
	@touch $@
