"""Options of the benchmarks; the dot peak of every instruction set, first of all."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# One thread each unless asked for: read by the engines when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MKL_THREADING_LAYER", "SEQUENTIAL")

import pytest
from cases import LINES, parametrize
from peak import dot_peaks

from accel import kernels

PACKAGES = ("lwaccel", "numpy", "onnxruntime", "openvino", "mkl", "torch")
PEAKS = pytest.StashKey[dict[str, float]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lwaccel benchmarks")
    group.addoption("--backends", help="comma-separated names of devices; default: all")
    group.addoption("--threads", help="comma-separated numbers of threads; default: 1")
    group.addoption("--isa", help="instruction set of our kernels; default: the best")
    group.addoption("--all-modes", action="store_true", help="all modes of every convolution")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if hasattr(metafunc.module, "LAYERS"):
        parametrize(metafunc)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[PEAKS] = dot_peaks()


def pytest_collection_finish(session: pytest.Session) -> None:
    peaks = ", ".join(f"{name} {rate:.1f}" for name, rate in session.config.stash[PEAKS].items())
    session.config.get_terminal_writer().line(f"dot peak of one core, GOP/s: {peaks}")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Layers in GOP/s and shares of the peak; pytest-benchmark's own table has times of bursts."""
    for text in config.stash.get(LINES, []):
        terminalreporter.line(text)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """What a figure needs beside it: the peaks, and the versions of the engines."""
    machine_info["dot_peak_gop_per_s"] = config.stash[PEAKS]
    machine_info["versions"] = {name: installed(name) for name in PACKAGES if installed(name)}


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@pytest.fixture(scope="session", autouse=True)
def isa(request: pytest.FixtureRequest) -> str:
    """Instruction set that our kernels use in this session."""
    name = request.config.getoption("--isa") or kernels.isa()
    kernels.use_isa(name)
    return str(name)
