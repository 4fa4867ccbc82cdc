"""Convolutions of known networks, with fused ReLU and quantization for the next layer.

make bench BENCH=bench/bench_conv.py
python -m pytest bench/bench_conv.py --backends cpu,openvino --threads 1,2
"""

from __future__ import annotations

import pytest
from layers import Layer, case_id, cases, measure
from peak import dot_peak
from pytest_benchmark.fixture import BenchmarkFixture

LAYERS = [
    Layer("3x3 64@56", 56, 64, 64, 3, window=64),
    Layer("3x3 128@28", 28, 128, 128, 3),
    Layer("3x3 256@14", 14, 256, 256, 3),
    Layer("3x3 512@7", 7, 512, 512, 3),
    Layer("1x1 256-64@56", 56, 256, 64),
    Layer("1x1 64-256@56", 56, 64, 256, window=64),
    Layer("1x1 512-128@28", 28, 512, 128),
    Layer("1x1 256-1024@14", 14, 256, 1024),
    Layer("1x1 512-2048@7", 7, 512, 2048),
    Layer("7x7/2 3-64@224", 224, 3, 64, 7, stride=2, window=3),
    Layer("depthwise 3x3 144@56", 56, 144, 144, 3, groups=144),
    Layer("depthwise 3x3/2 96@112", 112, 96, 96, 3, stride=2, groups=96),
    Layer("depthwise 3x3 384@14", 14, 384, 384, 3, groups=384),
    Layer("grouped 3x3 128@28", 28, 128, 128, 3, groups=32),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = cases(metafunc.config.getoption, LAYERS)
    metafunc.parametrize(("layer", "backend", "threads"), found, ids=case_id)


def bench_conv(
    benchmark: BenchmarkFixture, layer: Layer, backend: str, threads: int, isa: str
) -> None:
    """Median time of one convolution, one image."""
    measure(benchmark, layer, backend, threads, dot_peak(isa))
