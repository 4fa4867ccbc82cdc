"""Residuals that are quantized: added as they lie, window by window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Conv, Pool, QTensor, Quantize
from tests.kernels.kernel_oracle import SIGNS, ConvCase, conv_cases, zero_point

Array = np.ndarray[Any, Any]


def residual_of(shape: tuple[int, ...], window: int, signed: int, seed: int = 3) -> QTensor:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(np.float32) * 10 ** rng.uniform(-3, 3, (*shape[:3], 1))
    tensor = QTensor(shape, window, signed, (1, 0, 2, 1))
    Quantize(np.ascontiguousarray(x if signed else np.abs(x), np.float32), tensor, Pool(1))()
    return tensor


def out_shape(case: ConvCase) -> tuple[int, int, int, int]:
    n, h, w, _ = case.exact()[0].shape
    return n, h, w, case.groups * case.ocg


def values(tensor: QTensor) -> Array:
    """In float64."""
    spread = np.repeat(tensor.scale.astype(np.float64), tensor.window, axis=3)
    return (tensor.q - float(zero_point(tensor.signed))) * spread[..., : tensor.shape[3]]


def run(
    case: ConvCase, isa: str, residual: Any, quantized: bool, stored: bool = True, window: int = 32
) -> tuple[Array, ...]:
    """What is stored, float32, and what is quantized."""
    d = case.data()
    src = QTensor(d["q"].shape, case.window, case.signed, case.pads)
    src.q[...] = d["q"]
    if case.window is not None:
        src.scale[...] = d["scale"]
    with kernels.use_isa(isa):
        weights = case.pack()
    dst = np.empty(out_shape(case), np.float32)
    dst_q = QTensor(dst.shape, window, True) if quantized else None
    Conv(src, weights, bias=d["bias"], residual=residual, dst=dst if stored else None, dst_q=dst_q,
         pool=Pool(case.threads), **case.options())()  # fmt: skip
    return (dst, dst_q.q, dst_q.scale) if dst_q is not None else (dst,)


@given(conv_cases(windows=True), st.sampled_from([16, 32, 64, 1000]), SIGNS, st.booleans())
def test_every_isa_adds_the_same_bits(
    case: ConvCase, window: int, signed: int, quantized: bool
) -> None:
    if case.window is None:
        return
    residual = residual_of(out_shape(case), window, signed)
    first, *others = (run(case, isa, residual, quantized) for isa in kernels.isas())
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


PANELS = [
    {"ocg": 64, "size": (5, 19), "pads": (1, 6, 1, 6), "dilations": (1, 6)},  # segments of lines
    {"ocg": 160, "size": (9, 9)},  # blocks of 128 and 32 channels
    {"ocg": 96, "size": (4, 70), "pads": (2, 1, 2, 1), "dilations": (2, 1)},  # areas end in lines
    {"ocg": 64, "size": (7, 5), "window": None},
]


@pytest.mark.parametrize("panels", PANELS)
@pytest.mark.parametrize("residual_window", [32, 1000])
def test_windows_of_whole_panels_are_added(
    panels: dict[str, Any], residual_window: int, isa: str
) -> None:
    """As the product of a tile is stored."""
    case = replace(ConvCase(8, icg=20, window=8, activation="none"), **panels, arrays={})
    residual = residual_of(out_shape(case), residual_window, True)
    (plain,) = run(case, isa, None, False)
    (added,) = run(case, isa, residual, False)
    want = plain.astype(np.float64) + values(residual)
    np.testing.assert_allclose(added, want, rtol=2e-7, atol=2e-7 * np.abs(plain).max())
    if isa != "scalar":
        assert np.array_equal(added, run(case, "scalar", residual, False)[0])


@pytest.mark.parametrize("activation", ["none", "relu", "clip", "leaky"])
def test_levels_of_a_sum_are_those_of_what_is_stored(activation: str, isa: str) -> None:
    """Levels that are found straight from the sums of tiles."""
    case = replace(ConvCase(9, icg=20, ocg=64, window=8, activation=activation), arrays={})
    residual = residual_of(out_shape(case), 64, True)
    _, q, scale = run(case, isa, residual, True)
    _, alone_q, alone_scale = run(case, isa, residual, True, stored=False)
    assert np.array_equal(q, alone_q) and np.array_equal(scale, alone_scale)


@pytest.mark.parametrize("window", [10, 20, 24, 40])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
def test_windows_that_cut_those_of_the_residual_hold_the_sum(
    window: int, activation: str, isa: str
) -> None:
    """Vectors that begin with a window may see two scales."""
    case = replace(ConvCase(9, icg=20, ocg=90, window=8, activation=activation), arrays={})
    residual = residual_of(out_shape(case), 16, True)
    (want,) = run(case, "scalar", residual, False)
    want_q, want_scale = kernels.quantize_windows(want, window, True)
    for stored in (True, False):
        y, q, scale = run(case, isa, residual, True, stored, window)
        assert not stored or np.array_equal(y, want)
        assert np.array_equal(q, want_q) and np.array_equal(scale, want_scale)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("window", [16, 32, 64])
def test_sum_is_that_of_the_dequantized_residual(depthwise: bool, window: int) -> None:
    case = ConvCase(5, groups=80, icg=1, ocg=1) if depthwise else ConvCase(5, icg=24, ocg=80)
    case = replace(case, activation="none")
    residual = residual_of(out_shape(case), window, True)
    (plain,) = run(case, kernels.isa(), None, False)
    (added,) = run(case, kernels.isa(), residual, False)
    want = plain.astype(np.float64) + values(residual)
    np.testing.assert_allclose(added, want, rtol=2e-7, atol=2e-7 * np.abs(plain).max())


def test_channels_of_a_whole_can_be_added() -> None:
    case = ConvCase(6, icg=24, ocg=32)
    n, h, w, c = out_shape(case)
    whole = residual_of((n, h, w, 96), 32, True)
    part = whole.channels(32, 64)
    alone = QTensor((n, h, w, c), 32, True)
    alone.q[...], alone.scale[...] = part.q, part.scale
    assert np.array_equal(*(run(case, kernels.isa(), r, False)[0] for r in (part, alone)))


@pytest.mark.parametrize("window", [8, 24, 48])
def test_other_windows_are_refused(window: int) -> None:
    case = ConvCase(1, ocg=80)
    with pytest.raises(KernelError, match="expected a power of two of 16 or more"):
        run(case, kernels.isa(), QTensor(out_shape(case), window, True), False)


def test_wrong_residuals_are_refused() -> None:
    case = ConvCase(1, ocg=32)
    n, h, w, c = out_shape(case)
    with pytest.raises(KernelError, match="residual has shape"):
        run(case, kernels.isa(), QTensor((n, h, w, c + 1), 64, True), False)
    with pytest.raises(KernelError, match="residual has one scale for the whole tensor"):
        run(case, kernels.isa(), QTensor((n, h, w, c), None, True), False)


@pytest.mark.parametrize("oc", [64, 200])
def test_sum_over_its_own_residual_has_the_same_bits(oc: int, rng: np.random.Generator) -> None:
    shape, halo = (2, 9, 31, oc), (1, 1, 0, 2)
    src = QTensor((2, 9, 31, 48), 16, True)
    Quantize(rng.standard_normal(src.shape, np.float32), src, Pool(1))()
    qw = rng.integers(-127, 128, (oc, 1, 1, 48)).astype(np.int8)
    weights = kernels.pack_weights(qw, rng.random(oc, np.float32) / 500, 16)
    residual = QTensor(shape, 64, True, halo)
    Quantize(rng.standard_normal(shape, np.float32), residual, Pool(1))()
    floats = values(residual).astype(np.float32)
    apart = QTensor(shape, 64, True, halo)
    Conv(src, weights, residual=residual, dst_q=apart, pool=Pool(2))()
    Conv(src, weights, residual=residual, dst_q=residual, pool=Pool(2))()
    np.testing.assert_array_equal(residual.q, apart.q)
    np.testing.assert_array_equal(residual.scale, apart.scale)
    y = np.empty(shape, np.float32)
    Conv(src, weights, residual=floats, dst=y, pool=Pool(2))()
    Conv(src, weights, residual=floats, dst=floats, pool=Pool(2))()
    np.testing.assert_array_equal(floats, y)


def test_sum_over_a_residual_that_lies_otherwise_is_refused() -> None:
    src = QTensor((1, 4, 4, 16), 16, True)
    weights = kernels.pack_weights(np.ones((32, 1, 1, 16), np.int8), np.ones(32, np.float32), 16)
    memory = np.zeros(1 << 12, np.uint8)
    start = -memory.ctypes.data % 64
    over = [QTensor((1, 4, 4, 32), window, signed, halo, memory=memory[start : start + (1 << 11)])
            for window, signed, halo in ((32, True, (0, 0, 0, 0)), (16, True, (0, 0, 0, 0)),
                                         (32, True, (0, 1, 0, 0)))]  # fmt: skip
    for other in over[1:]:
        with pytest.raises(KernelError, match="overlap"):
            Conv(src, weights, residual=over[0], dst_q=other, pool=Pool(1))
