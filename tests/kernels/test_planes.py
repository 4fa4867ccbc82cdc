"""The first layer from float images: one scale per image, planes interleaved into pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Conv, Pool, QTensor, QuantizePlanes

Array = np.ndarray[Any, Any]
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.integers(1, 40))


def planes(shape: tuple[int, ...], exponent: int = 0, seed: int = 0) -> Array:
    """(N, C, H, W) whose images differ in size."""
    x = np.random.default_rng(seed).standard_normal(shape) * 2.0**exponent
    x *= 10.0 ** np.arange(shape[0]).reshape(-1, 1, 1, 1)
    return x.astype(np.float32)


def quantized(x: Array, isa: str, threads: int = 1, halo: int = 1) -> QTensor:
    n, c, h, w = x.shape
    dst = QTensor((n, h, w, c), None, True, (halo,) * 4)
    with kernels.use_isa(isa):
        QuantizePlanes(x, dst, Pool(threads))()
    return dst


@given(SHAPES, st.integers(-140, 120), st.integers(1, 2))
def test_planes_follow_the_specification_on_every_isa(
    shape: tuple[int, ...], exponent: int, threads: int
) -> None:
    x = planes(shape, exponent)
    top = np.abs(x).max(axis=(1, 2, 3))
    real = top >= 2.0**-100
    scale = np.where(real, top / np.float32(127), np.float32(0))
    factor = np.where(real, np.float32(127) / np.where(real, top, 1), np.float32(0))
    q = 128 + np.rint(x * factor.astype(np.float32).reshape(-1, 1, 1, 1))
    for isa in kernels.isas():
        got = quantized(x, isa, threads)
        assert np.array_equal(got.image_scale, scale.astype(np.float32))
        assert np.array_equal(got.q, q.transpose(0, 2, 3, 1))


@given(SHAPES, st.integers(1, 40), st.sampled_from([(1, 0), (3, 1), (5, 2)]), st.integers(1, 2))
def test_convolution_scales_every_image(
    shape: tuple[int, ...], oc: int, kernel: tuple[int, int], stride: int
) -> None:
    k, pad = kernel
    if min(shape[2:]) + 2 * pad < k:
        return
    x = planes(shape)
    rng = np.random.default_rng(1)
    qw = rng.integers(-127, 128, (oc, k, k, shape[1])).astype(np.int8)
    scale, bias = rng.random(oc, np.float32), rng.standard_normal(oc).astype(np.float32)
    results = []
    for isa in kernels.isas():
        src = quantized(x, isa, halo=pad)
        with kernels.use_isa(isa):
            weights = kernels.pack_weights(qw, scale, None)
        h, w = ((s + 2 * pad - k) // stride + 1 for s in shape[2:])
        dst = np.empty((shape[0], h, w, oc), np.float32)
        Conv(src, weights, strides=(stride,) * 2, pads=(pad,) * 4, bias=bias, dst=dst,
             pool=Pool(1))()  # fmt: skip
        results.append(dst)
    assert all(np.array_equal(y, results[0]) for y in results)
    real = (src.q.astype(np.float64) - 128) * src.image_scale.reshape(-1, 1, 1, 1)
    want = np.zeros(results[0].shape)
    padded = np.pad(real, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    for i, j in np.ndindex(k, k):
        taps = padded[:, i::stride, j::stride][:, :h, :w]
        want += taps @ (qw[:, i, j] * scale[:, None].astype(np.float64)).T
    np.testing.assert_allclose(results[0], want + bias, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_memory_used_by_others_gets_its_border_and_scales_again() -> None:
    x = planes((2, 3, 4, 5))
    memory = QTensor((2, 4, 5, 3), None, True, (1,) * 4).memory
    dst = QTensor((2, 4, 5, 3), None, True, (1,) * 4, memory)
    memory[...] = 7
    QuantizePlanes(x, dst, Pool(1))()
    fresh = quantized(x, kernels.isa())
    assert np.array_equal(dst.image_scale, fresh.image_scale)
    whole = [t.memory[: 2 * 6 * 7 * 3].reshape(2, 6, 7, 3) for t in (dst, fresh)]
    assert np.array_equal(*whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad: float) -> None:
    x = planes((2, 2, 3, 3))
    x[1, 1, 2, 0] = bad
    with pytest.raises(KernelError, match=r"NaN or infinity at \(1, 1, 2, 0\)"):
        quantized(x, kernels.isa())


@pytest.mark.parametrize(
    ("shape", "window", "signed"),
    [((1, 2, 2, 4), None, True), ((1, 2, 2, 3), 3, True), ((1, 2, 2, 3), None, False)],
)
def test_wrong_tensors_are_refused(
    shape: tuple[int, ...], window: int | None, signed: bool
) -> None:
    n, h, w, c = shape
    with pytest.raises(KernelError, match="expected at most 3, window None, signed=True"):
        QuantizePlanes(np.zeros((n, c, h, w), np.float32), QTensor(shape, window, signed), Pool(1))


def test_wrong_source_is_refused() -> None:
    dst = QTensor((1, 2, 2, 3), None, True)
    with pytest.raises(KernelError, match="src"):
        QuantizePlanes(np.zeros((1, 2, 2, 3), np.float32), dst, Pool(1))
