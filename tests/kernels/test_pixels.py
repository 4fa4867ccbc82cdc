"""The first layer: raw pixels, a border of its own, and the normalization folded into weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import kernels
from accel.kernels import Conv, Pixels, Pool, QTensor

Array = np.ndarray[Any, Any]
MEAN = np.array([0.485, 0.456, 0.406, 0.5])
STD = np.array([0.229, 0.224, 0.225, 0.25])


@given(
    st.integers(1, 4),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.booleans(),
    st.integers(1, 2),
)
def test_pixels_equal_numpy_pad(
    channels: int,
    size: tuple[int, int, int],
    halo: tuple[int, int, int, int],
    shared: bool,
    threads: int,
) -> None:
    x = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    border = (7, 200, 0, 255)[:channels]
    memory = QTensor(x.shape, None, False, halo).memory if shared else None
    dst = QTensor(x.shape, None, False, halo, memory, border=border)
    if memory is not None:
        memory[...] = 99
    Pixels(x, dst, Pool(threads))()
    top, left, bottom, right = halo
    n, h, w, pixel = x.shape  # of fewer than four channels, no more bytes than these
    whole = dst.memory[: n * (h + top + bottom) * (w + left + right) * pixel]
    whole = whole.reshape(n, h + top + bottom, w + left + right, pixel)[..., :channels]
    want = np.broadcast_to(np.array(border, np.uint8), whole.shape).copy()
    want[:, top : top + h, left : left + w] = x
    assert np.array_equal(whole, want)
    assert np.array_equal(dst.q, x)


def first_layer(x: Array, w: Array, b: Array, stride: int, pad: int, threads: int = 1) -> Array:
    """relu(conv((x / 255 - mean) / std, w) + b), quantized as Pixels describes."""
    c, oc = x.shape[3], w.shape[0]
    folded = w / (255 * STD[:c])
    sb = (np.abs(folded).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    qw = np.rint(folded / sb[:, None, None, None]).astype(np.int8)
    bias = b - (255 * MEAN[:c] * qw).sum(axis=(1, 2, 3)) * sb
    border = np.rint(255 * MEAN[:c]).astype(int)
    pool, halo = Pool(threads), (pad,) * 4
    src = QTensor(x.shape, None, False, halo, border=border.tolist())
    size = (x.shape[1] + 2 * pad - w.shape[1]) // stride + 1
    y = np.empty((x.shape[0], size, size, oc), np.float32)
    conv = Conv(
        src,
        kernels.pack_weights(qw, sb, None, signed=False),
        strides=(stride, stride),
        pads=halo,
        bias=bias.astype(np.float32),
        activation="relu",
        dst=y,
        pool=pool,
    )
    Pixels(x, src, pool)()
    conv()
    return y


@pytest.mark.parametrize(("kernel", "oc", "size"), [(7, 64, 24), (3, 32, 17), (1, 5, 4)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_first_layer_close_to_float64(
    isa: str, rng: np.random.Generator, kernel: int, oc: int, size: int, channels: int
) -> None:
    x = rng.integers(0, 256, (2, size, size, channels), np.uint8)
    w = rng.standard_normal((oc, kernel, kernel, channels))
    b, pad, s = rng.standard_normal(oc), kernel // 2, 2
    with kernels.use_isa(isa):
        got = first_layer(x, w, b, s, pad, threads=2)
    real = np.pad((x / 255 - MEAN[:channels]) / STD[:channels], ((0, 0), *[(pad, pad)] * 2, (0, 0)))
    want = np.zeros(got.shape)
    for i, j in np.ndindex(kernel, kernel):
        want += real[:, i::s, j::s][:, : got.shape[1], : got.shape[2]] @ w[:, i, j].T
    error = np.abs(got - np.maximum(want + b, 0))
    depth = kernel**2 * channels
    assert error.max() < 0.06 * np.sqrt(depth)  # rounding of weights to int8 and of the border
    with kernels.use_isa("scalar"):
        assert first_layer(x, w, b, s, pad).tobytes() == got.tobytes()


def test_one_scale_has_no_windows() -> None:
    x = QTensor((1, 2, 2, 3), None, False)
    weights = kernels.pack_weights(np.ones((2, 3), np.int8), np.ones(2, np.float32), None)
    assert x.window is None
    assert getattr(x, "scale", 0) is None
    assert weights.window is None
    assert weights.mode == "C"
    assert x.nbytes == QTensor.nbytes_for(x.shape, None) == 192
