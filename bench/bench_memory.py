"""What memory bounds: quantization, products of one row, pooling.

make bench BENCH=bench/bench_memory.py
make bench BENCH="bench/bench_memory.py -k quantize"
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from memory import copy_in_cache, measure_memory, reads_of
from pytest_benchmark.fixture import BenchmarkFixture

from accel import kernels

FLOATS = 96 * 1024  # of x: it and its levels lie in 1 MB of L2
CHANNELS = 128
PRODUCTS = [(1000, 2048), (1000, 1280), (4096, 4096), (4096, 25088)]  # N, K
POOLS = {  # size, channels, kernel, pad, output
    "resnet50": (112, 64, 3, 1, 56),
    "squeezenet": (113, 64, 3, 0, 56),
    "vgg16": (224, 64, 2, 0, 112),
}


@pytest.mark.parametrize("window", [32, 64, 128])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def bench_quantize(
    benchmark: BenchmarkFixture, pytestconfig: pytest.Config, window: int, signed: bool
) -> None:
    """float32 to windows, all in L2; bytes read and written, beside a copy there."""
    rows = FLOATS // CHANNELS
    x = np.random.default_rng(0).standard_normal((1, 1, rows, CHANNELS), np.float32)
    dst = kernels.QTensor(x.shape, window, signed)
    run = kernels.Quantize(x, dst, kernels.Pool(1))
    run()
    q, scale = kernels.quantize_windows(x, window, signed)
    assert np.array_equal(dst.q, q)
    assert np.array_equal(dst.scale, scale)
    moved = x.nbytes + q.nbytes + scale.nbytes
    name = f"quantize, windows of {window}, {'signed' if signed else 'unsigned'}"
    measure_memory(benchmark, pytestconfig, name, run, moved, copy_in_cache())


@pytest.mark.parametrize(("n", "k"), PRODUCTS)
def bench_row_product(
    benchmark: BenchmarkFixture, pytestconfig: pytest.Config, n: int, k: int
) -> None:
    """A product of one row, A-128; the bytes of its weights, beside loads of the same bytes."""
    rng = np.random.default_rng(0)
    qw = rng.integers(-127, 128, (n, k), np.int8)
    weights = kernels.pack_weights(qw, np.ones(n, np.float32), 128)
    x = kernels.QTensor((1, 1, 1, k), 128, True)
    x.q[...] = rng.integers(1, 256, x.q.shape, np.uint8)
    x.scale[...] = 1
    y = np.empty((1, 1, 1, n), np.float32)
    run = kernels.Conv(x, weights, dst=y, pool=kernels.Pool(1))
    run()
    exact = qw.astype(np.float64) @ (x.q.ravel().astype(np.float64) - 128)
    assert np.allclose(y.ravel(), exact, rtol=1e-5, atol=1e-5 * np.abs(exact).max())
    probe = reads_of(weights.blob)
    measure_memory(benchmark, pytestconfig, f"product 1x{n}x{k}", run, probe[1], probe)


@pytest.mark.parametrize("network", POOLS)
def bench_max_pool(benchmark: BenchmarkFixture, pytestconfig: pytest.Config, network: str) -> None:
    """The maximum behind a first layer: windows in, windows out."""
    size, channels, kernel, pad, out = POOLS[network]
    rng = np.random.default_rng(0)
    src = kernels.QTensor((1, size, size, channels), channels, False)
    src.q[...] = rng.integers(0, 256, src.q.shape, np.uint8)
    src.scale[...] = rng.random(src.scale.shape, np.float32)
    dst = kernels.QTensor((1, out, out, channels), channels, False)
    y = np.empty(dst.shape, np.float32)
    options: dict[str, Any] = {
        "kernel": (kernel,) * 2,
        "strides": (2, 2),
        "pads": (pad,) * 4,
        "out_shape": (out, out),
        "pool": kernels.Pool(1),
    }
    run = kernels.Pooling(src, "max", dst_q=dst, **options)
    run()
    kernels.Pooling(src, "max", dst=y, **options)()
    real = np.pad(src.q * src.scale, ((0, 0), *[(pad, pad)] * 2, (0, 0)))
    span = 2 * out - 1
    taps = [real[:, i : i + span : 2, j : j + span : 2] for i, j in np.ndindex(kernel, kernel)]
    assert np.array_equal(y, np.max(taps, axis=0))
    q, scale = kernels.quantize_windows(y, channels, False)
    assert np.array_equal(dst.q, q)
    moved = src.q.nbytes + src.scale.nbytes + q.nbytes + scale.nbytes
    measure_memory(benchmark, pytestconfig, f"max pool of {network}", run, moved)
