"""Matrix products, float32 out (int32 from some peers): all modes, and the peers' own int8.

make bench BENCH="bench/bench_gemm.py -k square"
make bench BENCH="bench/bench_gemm.py -k minilm --backends cpu,torch --threads 1,2 --isa avx2"
"""

from __future__ import annotations

import pytest
from cases import measure_layer, parametrize
from layer import Layer
from pytest_benchmark.fixture import BenchmarkFixture
from shapes import MODES, PRODUCTS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, PRODUCTS)


def bench_gemm(
    benchmark: BenchmarkFixture,
    pytestconfig: pytest.Config,
    group: str,
    layer: Layer,
    threads: int,
) -> None:
    """Best time of one product."""
    measure_layer(benchmark, pytestconfig, group, layer, threads, MODES)
