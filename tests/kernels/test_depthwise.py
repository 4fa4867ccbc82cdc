"""Depthwise layers that write windows for the next layer: the levels of their float32 results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracle import SIGNS, ConvCase, conv_cases

from accel import kernels
from accel.errors import AccelError

FLOORS = {"relu": (0.0, 0.0), "clip": (0.0, 2.0)}  # activations that begin at 0: lo, hi


def windows_of(case: ConvCase, isa: str, window: int, signed: int) -> tuple[np.ndarray, ...]:
    """q and scale that the layer writes."""
    d, pool = case.data(), kernels.Pool(case.threads)
    lo, hi = FLOORS.get(case.activation, (-1.0, 2.0))
    with kernels.use_isa(isa):
        src = kernels.QTensor(d["x"].shape, case.window or 1, case.signed, case.pads)
        kernels.Quantize(d["x"], src, pool)()
        dst = kernels.QTensor(floats(case, isa).shape, window, signed)
        conv = kernels.Conv(src, case.pack(), bias=d["bias"], dst_q=dst, pool=pool,
                            strides=case.strides, pads=case.pads, dilations=case.dilations,
                            activation=case.activation, alpha=0.1, lo=lo, hi=hi)  # fmt: skip
        conv()
    return dst.q.copy(), dst.scale.copy()


def floats(case: ConvCase, isa: str) -> np.ndarray:
    """The same layer's float32 result."""
    lo, hi = FLOORS.get(case.activation, (-1.0, 2.0))
    return case.run(isa, lo=lo, hi=hi)


def check(case: ConvCase, window: int, signed: int) -> None:
    """Every instruction set writes the windows of the scalar float32 result."""
    y = floats(case, "scalar")
    if not np.isfinite(y).all():
        return  # an error: tested elsewhere
    want_q, want_scale = kernels.quantize_windows(y, window, signed)
    for isa in kernels.isas():
        q, scale = windows_of(case, isa, window, signed)
        assert np.array_equal(q[..., : y.shape[-1]].reshape(want_q.shape), want_q), isa
        assert scale.tobytes() == want_scale.tobytes(), isa


@given(
    conv_cases(depthwise=True),
    st.integers(1, 80),
    st.sampled_from(("relu", "clip", "none", "silu")),
    SIGNS,
)
def test_depthwise_windows_are_those_of_its_floats(
    case: ConvCase, window: int, activation: str, signed: int
) -> None:
    check(replace(case, activation=activation, arrays={}), window, signed)


@pytest.mark.parametrize("channels", [8, 16, 24, 32, 48, 64, 96, 128, 144, 200])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("activation", FLOORS)
def test_depthwise_usual_layers_have_the_windows_of_their_floats(
    channels: int, kernel: int, stride: int, activation: str
) -> None:
    """Tiles that are not full, in both directions."""
    case = ConvCase(seed=channels, n=2, size=(17, 31), groups=channels, icg=1, ocg=1,
                    kernel=(kernel, kernel), strides=(stride, stride), pads=(kernel // 2,) * 4,
                    window=128, signed=False, activation=activation)  # fmt: skip
    check(case, 128, False)


@pytest.mark.parametrize("far", [1e6, 1e30, np.inf])
def test_depthwise_values_far_above_the_clip_become_its_level(isa: str, far: float) -> None:
    """Also where no integer holds value / scale."""
    case = ConvCase(seed=4, groups=70, icg=1, ocg=1, window=32, activation="clip")
    case.data()["bias"][5::9] = far
    check(case, 35, False)
    q, _ = windows_of(case, isa, 35, False)
    assert np.all(q[..., 5] == 255)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_depthwise_result_that_is_not_finite_is_an_error(isa: str, bad: float) -> None:
    case = ConvCase(seed=5, groups=70, icg=1, ocg=1, window=32, activation="relu")
    case.data()["bias"][69] = bad
    with pytest.raises(AccelError, match="NaN"):
        windows_of(case, isa, 35, False)


@pytest.mark.parametrize("signed", [True, False])
def test_depthwise_extreme_values_add_up_exactly(isa: str, signed: int) -> None:
    """Sums of two source rows at their extremes need all of 16 bits."""
    case = ConvCase(seed=7, size=(9, 9), groups=64, icg=1, ocg=1, window=64, signed=signed)
    d, sign = case.data(), np.random.default_rng(7).integers(0, 2, (1, 9, 9, 64))
    d["q"][...], d["scale"][...] = np.where(sign, 255, 0 if not signed else 1), 1.0
    d["qw"][...] = np.where(np.arange(64)[:, None, None, None] % 2, 127, -127)
    y, size = case.exact()
    assert np.all(np.abs(case.run(isa) - y - d["bias"]) <= 1e-6 * size)
