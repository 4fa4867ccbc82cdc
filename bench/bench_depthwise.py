"""Depthwise convolutions, one image, with fused ReLU and windows for the next layer.

make bench BENCH=bench/bench_depthwise.py
make bench BENCH="bench/bench_depthwise.py -k 5x5 --backends cpu,onnxruntime --isa avx2"
"""

from __future__ import annotations

import pytest
from cases import measure_layer, parametrize
from layer import Layer
from pytest_benchmark.fixture import BenchmarkFixture
from shapes import DEPTHWISE, MODES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, DEPTHWISE)


def bench_depthwise(
    benchmark: BenchmarkFixture,
    pytestconfig: pytest.Config,
    group: str,
    layer: Layer,
    threads: int,
) -> None:
    """Best time of one depthwise convolution."""
    measure_layer(benchmark, pytestconfig, group, layer, threads, MODES[:1])
