"""Tensors whose second half of channels says what rounding took off the first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Conv, Nearest, Pixels, Pool, Pooling, QTensor, Quantize

Array = np.ndarray[Any, Any]
STEPS = 16


def parts(y: Array, signed: int) -> tuple[Array, Array, Array]:
    """Levels, rests and scales of y (..., C), one window."""
    q, scale = kernels.quantize_windows(y, y.shape[-1], signed)
    above = np.float32(signed) / np.float32(255 - signed)
    top = np.maximum(y * above, -y).max(axis=-1, keepdims=True)
    large = top >= 2.0**-100
    v = y * np.divide(np.float32(signed), top, out=np.zeros_like(top), where=large)
    return q, signed + np.rint((v - np.rint(v)) * STEPS).astype(np.int64), scale


@given(
    channels=st.integers(1, 12),
    size=st.tuples(st.integers(3, 9), st.integers(3, 45)),
    kernel=st.sampled_from((1, 3)),
    signed=st.integers(STEPS // 2, 127),
    activation=st.sampled_from(("none", "relu", "leaky", "hardswish", "silu", "gelu")),
    raw=st.booleans(),
    threads=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_rests_are_those_of_the_float_result(
    channels: int, size: tuple[int, int], kernel: int, signed: int, activation: str, raw: bool,
    threads: int, seed: int,
) -> None:  # fmt: skip
    rng, pool = np.random.default_rng(seed), Pool(threads)
    shape = (2, *size, 3)
    if raw:
        src = QTensor(shape, None, False, (1, 1, 1, 1))
        Pixels(rng.integers(0, 256, shape, np.uint8), src, pool)()
    else:
        src = QTensor(shape, 8, True, (1, 1, 1, 1))
        Quantize(rng.standard_normal(shape, np.float32), src, pool)()
    qw = rng.integers(-127, 128, (channels, kernel, kernel, 3)).astype(np.int8)
    sb = rng.random(channels, np.float32)
    bias = rng.standard_normal(channels, np.float32)
    for isa in kernels.isas():
        with kernels.use_isa(isa):
            weights = kernels.pack_weights(qw, sb, src.window, signed=src.signed)
        out = (2, size[0] + 3 - kernel, size[1] + 3 - kernel, channels)
        dst = QTensor((*out[:3], 2 * channels), 2 * channels, signed, (1, 0, 2, 1), rests=True)
        before = dst.memory.copy()
        y = np.empty(out, np.float32)
        options = {"pads": (1, 1, 1, 1), "bias": bias, "activation": activation, "alpha": 0.1}
        Conv(src, weights, **options, dst=y, pool=pool)()
        Conv(src, weights, **options, dst_q=dst, pool=pool)()
        levels, rests, scale = parts(y, signed)
        assert np.array_equal(dst.q[..., :channels], levels), isa
        assert np.array_equal(dst.q[..., channels:], rests), isa
        assert dst.scale.tobytes() == scale.tobytes(), isa
        dst.q[...], dst.scale[...] = signed, 0
        assert np.array_equal(dst.memory, before), "the border changed"


@pytest.mark.parametrize(
    ("channels", "window", "signed"),
    [(7, 7, 56), (8, 4, 56), (8, None, 56), (8, 8, True), (8, 8, False), (8, 8, STEPS // 2 - 1)],
)
def test_rests_of_other_forms_are_refused(
    channels: int, window: int | None, signed: bool | int
) -> None:
    with pytest.raises(KernelError, match=r"rests of \d channels"):
        QTensor((1, 2, 2, channels), window, signed, rests=True)


def test_rests_are_refused_by_all_but_convolutions() -> None:
    pool, rests = Pool(1), QTensor((1, 2, 2, 8), 8, 56, rests=True)
    floats, other = np.zeros((1, 2, 2, 8), np.float32), QTensor((1, 2, 2, 8), 8, 56)
    same = np.arange(2)
    for bind in (
        lambda: Quantize(floats, rests, pool),
        lambda: Nearest(rests, other, same, same, pool),
        lambda: Nearest(other, rests, same, same, pool),
        lambda: Pooling(floats, "max", kernel=(1, 1), out_shape=(2, 2), dst_q=rests, pool=pool),
        lambda: Pooling(rests, "max", kernel=(1, 1), out_shape=(2, 2), dst=floats, pool=pool),
    ):
        with pytest.raises(KernelError, match="has rests"):
            bind()
