"""Results of four or eight channels, several pixels of which fill a vector: equal to the scalar
kernel, at every place of a line and over a residual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Conv, Pool, QTensor, Quantize

Array = np.ndarray[Any, Any]
ACTIVATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "relu": {},
    "clip": {"lo": 0.0, "hi": 1.5},
    "leaky": {"alpha": 0.1},
    "hardswish": {},
}


def results(
    isa: str, activation: str, signed: bool, oc: int, wide: int, residual: str, floats: bool
) -> list[bytes]:
    """Levels, scales and floats of a convolution, into channels of a whole if `wide` is odd."""
    rng, pool = np.random.default_rng(0), Pool(2)
    shape = (1, 3, wide, oc)
    src = QTensor((1, 3, wide, 8), 8, True)
    Quantize(rng.standard_normal(src.shape, np.float32), src, pool)()
    with kernels.use_isa(isa):
        weights = kernels.pack_weights(
            rng.integers(-127, 128, (oc, 1, 1, 8)).astype(np.int8),
            np.full(oc, 1 / 400, np.float32), 8, signed=True,
        )  # fmt: skip
    added: Any = rng.standard_normal(shape, np.float32) if residual else None
    if residual == "windows":
        added = QTensor(shape, 32, True)
        Quantize(rng.standard_normal(shape, np.float32), added, pool)()
    layout: Any = ((1, 3, wide, 2 * oc if wide % 2 else oc), oc, signed, (1, 2, 0, 1))
    whole = QTensor(*layout, QTensor(*layout).memory)
    whole.memory[...] = 77
    dst_q = whole.channels(oc, 2 * oc) if wide % 2 else whole
    dst = np.zeros(shape, np.float32) if floats else None
    bias = rng.standard_normal(oc, np.float32)
    Conv(src, weights, bias=bias, residual=added, activation=activation, dst=dst, dst_q=dst_q,
         pool=pool, **ACTIVATIONS[activation])()  # fmt: skip
    return [dst_q.q.tobytes(), dst_q.scale.tobytes(), whole.memory.tobytes(),
            b"" if dst is None else dst.tobytes()]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("oc", [4, 8])
@pytest.mark.parametrize("residual", ["", "floats", "windows"])
@pytest.mark.parametrize("floats", [True, False])
def test_short_pixels_equal_scalar(
    activation: str, signed: bool, oc: int, residual: str, floats: bool, isa: str
) -> None:
    for wide in (15, 16, 17, 40, 150):
        case = (activation, signed, oc, wide, residual, floats)
        assert results(isa, *case) == results("scalar", *case)


@pytest.mark.parametrize("at", [0, 15, 17])
def test_short_pixel_that_is_not_finite_raises(at: int, isa: str) -> None:
    pool, residual = Pool(), np.zeros((1, 1, 18, 8), np.float32)
    residual[0, 0, at, 3] = np.inf
    src = QTensor((1, 1, 18, 8), 8, True)
    with kernels.use_isa(isa):
        weights = kernels.pack_weights(
            np.ones((8, 1, 1, 8), np.int8), np.ones(8, np.float32), 8, signed=True
        )
    run = Conv(src, weights, residual=residual, dst_q=QTensor((1, 1, 18, 8), 8, True), pool=pool)
    with pytest.raises(KernelError, match="NaN or infinity"):
        run()


@pytest.mark.parametrize("oc", [4, 8, 16])
@pytest.mark.parametrize("weight_window", [None, 8])
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("size", [15, 16, 33, 130])
def test_sums_of_few_channels_equal_scalar(
    oc: int, weight_window: int | None, depthwise: bool, size: int, isa: str
) -> None:
    """3x3 at stride 2 or 1 over windows with a rest, alone and ahead of a depthwise layer."""
    found = []
    for name in ("scalar", isa):
        rng, pool = np.random.default_rng(0), Pool(2)
        stride = 1 if depthwise else 2
        src = QTensor((1, 5, size * stride, 12), 8, True, (1, 1, 1, 1))
        Quantize(rng.standard_normal(src.shape, np.float32), src, pool)()
        qw = rng.integers(-127, 128, (oc, 3, 3, 12)).astype(np.int8)
        sb = rng.random((oc, 3, 3, 2) if weight_window else (oc,), np.float32) / 400
        taps = rng.integers(-127, 128, (oc, 3, 3, 1)).astype(np.int8)
        with kernels.use_isa(name):
            weights = kernels.pack_weights(qw, sb, 8, weight_window=weight_window, signed=True)
            behind = kernels.pack_weights(taps, np.ones(oc, np.float32), 8, signed=True, groups=oc)
        how: dict[str, Any] = {"pads": (1, 1, 1, 1), "activation": "leaky", "alpha": 0.1}
        dst = QTensor((1, 5 if depthwise else 3, size, oc), oc, True)
        if depthwise:
            Conv(kernels.Dense(src, weights, **how), behind, dst_q=dst, pool=pool, **how)()
        else:
            Conv(src, weights, dst_q=dst, strides=(2, 2), pool=pool, **how)()
        found.append((dst.q.tobytes(), dst.scale.tobytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize("oc", [4, 8, 16])
@pytest.mark.parametrize("activation", ["relu", "clip"])
@pytest.mark.parametrize("wide", [15, 16, 45])
def test_few_channels_of_a_first_layer_equal_scalar(
    oc: int, activation: str, wide: int, isa: str
) -> None:
    """3x3 at stride 2 over an image of one scale, ahead of a depthwise layer."""
    found = []
    for name in ("scalar", isa):
        rng, pool = np.random.default_rng(0), Pool(2)
        src = QTensor((2, 10, 2 * wide, 3), None, True, (1, 1, 1, 1))
        image = rng.standard_normal((2, 3, 10, 2 * wide), np.float32)
        kernels.QuantizePlanes(image, src, pool)()
        qw = rng.integers(-127, 128, (oc, 3, 3, 3)).astype(np.int8)
        taps = rng.integers(-127, 128, (oc, 3, 3, 1)).astype(np.int8)
        with kernels.use_isa(name):
            weights = kernels.pack_weights(qw, rng.random(oc, np.float32) / 40, None, signed=True)
            behind = kernels.pack_weights(taps, np.ones(oc, np.float32), 8, signed=True, groups=oc)
        how: dict[str, Any] = {"pads": (1, 1, 1, 1), "activation": activation, "lo": 0.0, "hi": 6.0}
        dst = QTensor((2, 5, wide, oc), oc, False)
        first = kernels.Dense(src, weights, strides=(2, 2), **how)
        Conv(first, behind, dst_q=dst, pool=pool, **how)()
        found.append((dst.q.tobytes(), dst.scale.tobytes()))
    assert found[0] == found[1]
