"""A dense convolution and the depthwise one behind it as one layer, against the scheme of lw.h."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kernel_oracle import ConvCase, conv_cases, convolve, tap_weights

from accel import kernels
from accel.errors import AccelError

MOST = 255 << 6  # the largest 16-bit value
WINDOW = 64
LIMITS = (0.5, 6.0, 2.0**-100, 2.0**30)


def source(case: ConvCase) -> kernels.QTensor:
    """The quantized input of the dense convolution."""
    d = case.data()
    src = kernels.QTensor(d["x"].shape, case.window, case.signed, case.pads)
    src.q[...] = d["q"]
    if d["scale"] is not None:
        src.scale[...] = d["scale"]
    return src


def fused(dense: ConvCase, then: ConvCase, hi: float, isa: str, **more: Any) -> kernels.Conv:
    """The bound layer; `more`: where it writes."""
    d, t = dense.data(), then.data()
    with kernels.use_isa(isa):
        weights, taps = dense.pack(), then.pack()
    first = kernels.Dense(source(dense), weights, bias=d["bias"], strides=dense.strides,
                          pads=dense.pads, dilations=dense.dilations, hi=hi, lo=0.0, alpha=0.1,
                          activation=dense.activation)  # fmt: skip
    return kernels.Conv(first, taps, bias=t["bias"], strides=then.strides, pads=then.pads,
                        dilations=then.dilations, activation=then.activation, alpha=0.1, lo=0.0,
                        hi=4.0, pool=kernels.Pool(then.threads), **more)  # fmt: skip


def floats(dense: ConvCase, then: ConvCase, hi: float, isa: str) -> np.ndarray:
    """Its float32 result."""
    y = np.full(shape(dense, then), np.nan, np.float32)
    fused(dense, then, hi, isa, dst=y)()
    return y


def windows(
    dense: ConvCase, then: ConvCase, hi: float, isa: str, window: int
) -> tuple[np.ndarray, np.ndarray]:
    """q and scale of its result."""
    dst = kernels.QTensor(shape(dense, then), window, True)
    fused(dense, then, hi, isa, dst_q=dst)()
    return dst.q.copy(), dst.scale.copy()


def shape(dense: ConvCase, then: ConvCase) -> tuple[int, ...]:
    n, h, w, c = dense.run("scalar").shape
    return convolve(np.zeros((n, h, w, c)), np.zeros((c, *then.kernel, 1)), then).shape


def exponents(y: np.ndarray, bound: float | None) -> np.ndarray:
    """k of every row and channel, (N, H, C); 999 where a row is 0 throughout."""
    tops = np.stack([np.abs(y[..., c : c + WINDOW]).max(axis=(2, 3)) if bound is None
                     else np.full(y.shape[:2], np.float32(bound))
                     for c in range(0, y.shape[3], WINDOW)], axis=-1)  # fmt: skip
    part, exponent = np.frexp(tops.astype(np.float64))
    k = np.where(part * 2**14 <= MOST, 14, 13) - exponent
    return np.repeat(np.where(tops >= 2.0**-100, k, 999), WINDOW, axis=-1)[..., : y.shape[3]]


def expected(dense: ConvCase, then: ConvCase, hi: float) -> tuple[np.ndarray, np.ndarray]:
    """The float32 result before its activation, in float64; and what it may be off."""
    y = dense.run("scalar", lo=0.0, hi=hi)
    k = exponents(y, hi if dense.activation == "clip" else None)
    factor = np.where(k == 999, 0.0, 2.0 ** np.minimum(k, 200))[:, :, None]
    v = np.rint(y.astype(np.float64) * factor).astype(np.int64)
    qd, sb = tap_weights(then)
    kh, stride = then.kernel[0], then.strides[0]
    v = np.pad(v, ((0, 0), (then.pads[0], then.pads[2]), (0, 0), (0, 0)))
    k = np.pad(k, ((0, 0), (then.pads[0], then.pads[2]), (0, 0)), constant_values=999)
    together = 2 if then.kernel == (3, 3) and then.strides == (1, 1) else 1
    rows, row_case = [], replace(then, pads=(0, then.pads[1], 0, then.pads[3]))
    for top in range(0, v.shape[1] - kh + 1, together * stride):
        seen = slice(top, min(top + kh + together - 1, v.shape[1]))
        least = k[:, seen].min(axis=1, keepdims=True)
        shift = np.where(k[:, seen] == 999, 0, np.minimum(k[:, seen] - least, 15))
        acc = 2 * convolve(v[:, seen] >> shift[:, :, None], qd[..., None], row_case)
        unit = np.float32(2) ** np.float32(-1 - np.minimum(least, 200)) * sb
        rows.append(acc.astype(np.float32).astype(np.float64) * unit[:, :, None])
    sums = np.concatenate(rows, axis=1) + then.data()["bias"]
    return sums, 2e-7 * (np.abs(sums) + np.abs(then.data()["bias"])) + 1e-37


def check(dense: ConvCase, then: ConvCase, hi: float) -> None:
    """All instruction sets and numbers of threads give the same bits, which the scheme asks for."""
    y = floats(dense, then, hi, "scalar")
    if then.activation == "none" and np.isfinite(y).all():
        want, off = expected(dense, then, hi)
        assert np.all(np.abs(y - want) <= off)
    q, scale = kernels.quantize_windows(y, 24, True)
    for isa in kernels.isas():
        for threads in (1, 2):
            case = replace(then, threads=threads)
            assert floats(dense, case, hi, isa).tobytes() == y.tobytes(), (isa, threads)
        levels, scales = windows(dense, then, hi, isa, 24)
        assert np.array_equal(levels[..., : q.shape[-1]], q), isa
        assert scales.tobytes() == scale.tobytes(), isa


@st.composite
def pairs(draw: st.DrawFn) -> tuple[ConvCase, ConvCase]:
    """A dense convolution, and a depthwise one that fits behind it."""
    dense = replace(draw(conv_cases(windows=draw(st.booleans()))), groups=1)
    oc, size = dense.ocg, (dense.size[0] + 4, dense.size[1] + 10)
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    pads = draw(st.tuples(*[st.integers(0, min(kernel) - 1)] * 4))
    then = ConvCase(
        seed=dense.seed, groups=oc, icg=1, ocg=1, kernel=kernel, pads=pads,
        strides=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))), window=oc,
        weight_window=draw(st.sampled_from((None, 1))),
        activation=draw(st.sampled_from(("none", "none", "clip", "silu", "gelu"))),
    )  # fmt: skip
    activation = draw(st.sampled_from(("clip", dense.activation)))
    return replace(dense, size=size, activation=activation, arrays={}), then


@given(pairs(), st.sampled_from(LIMITS))
def test_fused_layers_are_the_scheme_in_every_instruction_set(
    pair: tuple[ConvCase, ConvCase], hi: float
) -> None:
    dense, then = pair
    assume(dense.ocg > 1)
    _, h, w, _ = dense.run("scalar").shape
    high, wide = h + then.pads[0] + then.pads[2], w + then.pads[1] + then.pads[3]
    assume(w > 1 and high >= then.kernel[0] and wide >= then.kernel[1])
    check(dense, then, hi)


@pytest.mark.parametrize("channels", [16, 64, 72, 144, 200])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("activation", ["clip", "leaky"])
def test_fused_usual_layers_are_the_same_in_bands_and_strips(
    channels: int, kernel: int, stride: int, activation: str
) -> None:
    """Rows of very different sizes, so that values are shifted."""
    dense = ConvCase(seed=channels, size=(33, 130), icg=24, ocg=channels, kernel=(1, 1),
                     pads=(0, 0, 0, 0), window=24, activation=activation)  # fmt: skip
    d = dense.data()
    d["scale"] *= np.float32(2.0) ** np.arange(-33, 33, 2).reshape(1, -1, 1, 1)
    d["bias"][:] = 0
    then = ConvCase(seed=1, groups=channels, icg=1, ocg=1, kernel=(kernel, kernel),
                    strides=(stride, stride), pads=(kernel // 2,) * 4, window=32)  # fmt: skip
    check(dense, then, 6.0)


def test_fused_values_beyond_the_limit_become_it(isa: str) -> None:
    dense = ConvCase(seed=3, icg=8, ocg=4, kernel=(1, 1), pads=(0, 0, 0, 0), activation="clip")
    dense.data()["bias"][:] = (1e30, -1e30, np.inf, -np.inf)
    then = ConvCase(seed=4, groups=4, icg=1, ocg=1, kernel=(1, 1), pads=(0, 0, 0, 0), window=4)
    then.data()["qw"][:], then.data()["sw"][:], then.data()["bias"][:] = 1, 1, 0
    y = floats(dense, then, 6.0, isa)
    np.testing.assert_allclose(y.reshape(-1, 4), np.tile([6, 0, 6, 0], (y.size // 4, 1)), 1e-6)


@pytest.mark.parametrize("activation", ["clip", "silu", "gelu"])
def test_fused_foreign_product_gives_the_same_bits(mkl_gemm: int, activation: str) -> None:
    dense = ConvCase(seed=5, size=(9, 300), icg=40, ocg=100, window=16)
    then = ConvCase(seed=6, groups=100, icg=1, ocg=1, window=32)
    d, t, found = dense.data(), then.data(), []
    for address in (None, mkl_gemm):
        y = np.empty(shape(dense, then), np.float32)
        first = kernels.Dense(source(dense), dense.pack(), bias=d["bias"], pads=dense.pads,
                              activation=activation, lo=0.0, hi=3.0, gemm=address)  # fmt: skip
        kernels.Conv(first, then.pack(), bias=t["bias"], pads=then.pads, dst=y,
                     pool=kernels.Pool(2))()  # fmt: skip
        found.append(y)
    assert found[0].tobytes() == found[1].tobytes()


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_fused_rows_of_tiny_values_are_zero(activation: str) -> None:
    dense = ConvCase(seed=3, size=(12, 20), ocg=70, kernel=(1, 1), pads=(0, 0, 0, 0),
                     activation=activation)  # fmt: skip
    d = dense.data()
    d["scale"] *= np.float32(2.0) ** np.arange(-115, -103).reshape(1, -1, 1, 1)
    d["bias"][:] = 0
    then = ConvCase(seed=4, groups=70, icg=1, ocg=1, window=70)
    then.data()["bias"][:] = 0
    check(dense, then, 1.0)
    assert not floats(dense, then, 1.0, "scalar")[:, 0].any()
    assert floats(dense, then, 1.0, "scalar")[:, -1].any()


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_fused_value_between_the_layers_that_is_not_finite_is_an_error(
    isa: str, bad: float
) -> None:
    dense = ConvCase(seed=5, ocg=70)
    dense.data()["bias"][69] = bad
    then = ConvCase(seed=6, groups=70, icg=1, ocg=1, window=70)
    with pytest.raises(AccelError, match="NaN"):
        floats(dense, then, 1.0, isa)


def test_dense_what_no_depthwise_layer_can_take_is_an_error() -> None:
    grouped, one = ConvCase(seed=7, groups=2), ConvCase(seed=7, size=(6, 1), ocg=70)
    with pytest.raises(AccelError, match="2 groups"):
        kernels.Dense(source(grouped), grouped.pack(), pads=grouped.pads)
    then = ConvCase(seed=4, groups=70, icg=1, ocg=1, window=70)
    with pytest.raises(AccelError, match="several columns"):
        fused(one, then, 1.0, kernels.isa(), dst=np.empty((1, 6, 1, 70), np.float32))
    usual = ConvCase(seed=7)
    with pytest.raises(AccelError, match="activation"):
        kernels.Dense(source(usual), usual.pack(), pads=usual.pads, activation="tanh")


@pytest.mark.parametrize(
    "change",
    [{"strides": (3, 1)}, {"dilations": (2, 2)}, {"pads": (3, 3, 3, 3)}, {"groups": 1, "icg": 8}],
)
def test_fused_layer_that_is_no_usual_depthwise_one_is_an_error(change: dict[str, Any]) -> None:
    dense = ConvCase(seed=8)
    then = replace(ConvCase(seed=9, groups=8, icg=1, ocg=1, window=8), **change)
    with pytest.raises(AccelError, match="behind a dense one"):
        fused(dense, then, 1.0, "scalar", dst=np.empty((1, 6, 7, 8), np.float32))


def test_fused_layer_with_other_channels_is_an_error() -> None:
    then = ConvCase(seed=9, groups=9, icg=1, ocg=1, window=9)
    with pytest.raises(AccelError, match="8 channels; expected 9"):
        fused(ConvCase(seed=8), then, 1.0, "scalar", dst=np.empty((1, 6, 7, 9), np.float32))
