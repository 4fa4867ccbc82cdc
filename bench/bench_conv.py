"""Convolutions of known networks, one image, with fused ReLU and windows for the next layer.

First layers begin with raw pixels: peers normalize and quantize them, ours has that in its weights.

make bench BENCH="bench/bench_conv.py -k resnet50"
make bench BENCH="bench/bench_conv.py -k '3x3 and vgg16' --backends cpu,openvino --threads 1,2"
make bench BENCH="bench/bench_conv.py --all-modes"
"""

from __future__ import annotations

import pytest
from cases import measure_layer, parametrize
from layer import Layer
from pytest_benchmark.fixture import BenchmarkFixture
from shapes import MODES, NETWORKS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, NETWORKS)


def bench_conv(
    benchmark: BenchmarkFixture,
    pytestconfig: pytest.Config,
    group: str,
    layer: Layer,
    threads: int,
) -> None:
    """Best time of one convolution."""
    modes = MODES if pytestconfig.getoption("--all-modes") else MODES[:1]
    measure_layer(benchmark, pytestconfig, group, layer, threads, modes)
