"""Matrix products: activation windows (A), weight windows too (AW), and the peers' own int8.

make bench BENCH=bench/bench_gemm.py
python -m pytest bench/bench_gemm.py --backends cpu,onnxruntime --threads 1,2 --isa avx2
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from layers import Layer, case_id, cases, measure
from peak import dot_peak
from pytest_benchmark.fixture import BenchmarkFixture


def product(m: int, n: int, k: int, window: int, weight_window: int | None = None) -> Layer:
    mode = "A" if weight_window is None else "AW"
    name = f"{m}x{n}x{k} {mode}-{window}"
    return Layer(name, m, k, n, window=window, weight_window=weight_window, product=True)


SQUARES = [product(1024, 1024, 1024, g, w) for g in (32, 64, 128, 256) for w in (None, g)]
OTHERS = [
    product(2048, 2048, 2048, 128),
    product(196, 256, 2304, 128),
    product(16, 1024, 1024, 128),
    product(1, 1024, 1024, 128),
    product(1, 1000, 2048, 128),
]
PEER_SHAPES = ("onnxruntime", "openvino")  # have one int8 product, whatever our windows


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = cases(metafunc.config.getoption, SQUARES + OTHERS)
    found = [c for c in found if c[1] not in PEER_SHAPES or c[0].window == 128]
    found = [c for c in found if c[1] not in PEER_SHAPES or c[0].weight_window is None]
    metafunc.parametrize(("layer", "backend", "threads"), found, ids=case_id)


def bench_gemm(
    benchmark: BenchmarkFixture, layer: Layer, backend: str, threads: int, isa: str
) -> None:
    """Median time of one product, float32 out (int32 out for the peers)."""
    layer = replace(layer, name=layer.name.split(" ")[0])  # one group for all windows
    measure(benchmark, layer, backend, threads, dot_peak(isa))
