"""Whole networks, one image at a time: our devices beside the other engines on fp32 and int8.

    make bench BENCH=bench/bench_networks.py
    python -m pytest bench/bench_networks.py --backends cpu,openvino --threads 1,2

The digits network is always measured, the trained models beside the repository where present.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import accel
from accel import kernels
from accel.demo import digits_model_path

MODELS = Path(__file__).resolve().parents[2] / "shared" / "data" / "models"
NETWORKS = (
    "resnet8_cifar10",
    "resnet20_cifar10",
    "vww_mobilenet_v1_0.25_96",
    "squeezenet1.1",
    "mobilenet_v1_1.0_224_trunk12",
    "mobilenet_v2_1.0_224_ptq_dq",
    "yolo-fastest-1.1",
)
TAKES_FP32 = ("openvino", "onnxruntime")
RELATIVE_ERROR = 0.05

Array = np.ndarray[Any, Any]


def networks() -> dict[str, Path]:
    """Name to file of what is measured."""
    found = {"digits": digits_model_path()}
    for name in NETWORKS:
        found.update((name, path) for path in MODELS.glob(f"{name}.onnx*"))
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One benchmark for each network, device, precision and number of threads."""
    option = metafunc.config.getoption
    wanted = option("--backends", default=None)
    usable = [d.name for d in accel.devices() if d.available and d.name not in ("fpga", "auto")]
    names = wanted.split(",") if wanted else usable
    threads = [int(n) for n in str(option("--threads", default=None) or "1").split(",")]
    pairs = [(n, p) for n in names for p in ("fp32", "int8") if p == "int8" or n in TAKES_FP32]
    cases = [(f, n, p, t) for f in networks() for t in threads for n, p in pairs]
    metafunc.parametrize(("network", "backend", "precision", "threads"), cases)


def bench_network(
    benchmark: BenchmarkFixture, network: str, backend: str, precision: str, threads: int
) -> None:
    """Median time of one image."""
    model = accel.load(networks()[network])
    rng = np.random.default_rng(0)
    spec = model.inputs[0]
    x = rng.random([d or 1 for d in spec.shape]).astype(spec.dtype)
    expected = vector(accel.device("onnxruntime").compile(model).run(x))
    ready = model.quantize() if precision == "int8" else model
    program = accel.device(backend).compile(ready, threads=threads)
    difference = np.linalg.norm(vector(program.run(x)) - expected)
    assert difference <= RELATIVE_ERROR * np.linalg.norm(expected)
    benchmark.group = f"{network}, {threads} threads"
    benchmark(program.run, x)
    macs = sum(layer.macs for layer in model.workload())
    benchmark.extra_info.update(
        device=backend, precision=precision, threads=threads, isa=kernels.isa(), macs=macs
    )
    if benchmark.stats is not None:  # None where pytest-benchmark is disabled
        benchmark.extra_info["gop_per_s"] = 2e-9 * macs / benchmark.stats.stats.median


def vector(y: Array | dict[str, Array]) -> Array:
    """All outputs as one vector."""
    parts = y.values() if isinstance(y, dict) else [y]
    return np.concatenate([np.ravel(part) for part in parts])
