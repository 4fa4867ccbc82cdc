"""Convolutions with transformed weights: the paragraph of lw.h in NumPy, and the same bits from
every instruction set, whatever follows the sums."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_oracle import ACTIVATIONS, FLOAT_BUDGET, SIGNS, VALUES, ConvCase, convolve, spread

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Conv, Dense, MaxPool, PackedWeights, Pool, Pooling, QTensor, Quantize
from accel.winograd import transform_weights

Array = np.ndarray[Any, Any]
ONE_WINDOW = [(c, c) for c in (16, 32, 48, 64, 96)]
CHANNELS = [*ONE_WINDOW, (64, 32), (128, 64), (128, 128), (256, 64), (256, 128), (256, 256)]
LINES, SUM = range(4), 1
CLOSE = 0.02  # of the direct convolution, relative


@st.composite
def cases(draw: st.DrawFn, values: tuple[str, ...] = VALUES) -> ConvCase:
    pads = draw(st.tuples(*[st.integers(0, 1)] * 4))
    least = [3 - pads[0] - pads[2], 4 - pads[1] - pads[3]]  # two columns
    ic, window = draw(st.sampled_from(CHANNELS))
    return ConvCase(
        seed=draw(st.integers(0, 2**32 - 1)),
        n=draw(st.integers(1, 3)),
        size=(draw(st.integers(least[0], 7)), draw(st.integers(least[1], 9) | st.integers(28, 34))),
        icg=ic,
        ocg=draw(st.sampled_from((16, 31, 33, 130)) | st.integers(1, 150)),
        pads=pads,
        window=window,
        signed=draw(st.booleans()),
        values=draw(st.sampled_from(values)),
        threads=draw(st.integers(1, 3)),
    )


def weights_of(case: ConvCase) -> tuple[Array, Array]:
    """Any levels and scales of the four lines, of which some scales are 0."""
    rng = np.random.default_rng(case.seed + 1)
    qw = rng.integers(-127, 128, (4, case.ocg, 3, case.icg)).astype(np.int8)
    if case.values == "saturating":
        qw[...] = rng.choice(np.array([-127, 127], np.int8), (4, case.ocg, 1, 1))
    return qw, np.maximum(rng.random((4, case.ocg), np.float32) - np.float32(0.1), 0)


def pack(case: ConvCase, isa: str, qw: Array, scale: Array) -> PackedWeights:
    with kernels.use_isa(isa):
        return kernels.pack_weights(qw, scale, case.window, signed=case.signed, winograd=True)


def source(case: ConvCase, before: int = 0, wider: int = 0) -> QTensor:
    """The input with so many windows more ahead of it, in a halo that is so much wider."""
    d, skip = case.data(), before * (case.window or 0)
    halo = [p + wider for p in case.pads]
    whole = QTensor((case.n, *case.size, skip + case.icg), case.window, case.signed, halo)
    whole.q[...], whole.scale[...] = 255, np.nan
    src = whole.channels(skip, skip + case.icg)
    src.q[...], src.scale[...] = d["q"], d["scale"]
    return src


def shape_of(case: ConvCase) -> tuple[int, int, int, int]:
    (h, w), (top, left, bottom, right) = case.size, case.pads
    return case.n, h + top + bottom - 2, w + left + right - 2, case.ocg


def bind(case: ConvCase, weights: PackedWeights, src: QTensor | None = None, **more: Any) -> Conv:
    """The layer, with its bias."""
    options = {**case.options(), "bias": case.data()["bias"], "pool": Pool(case.threads)}
    return Conv(src or source(case), weights, **{**options, **more})


def run(case: ConvCase, weights: PackedWeights, src: QTensor | None = None, **more: Any) -> Array:
    y = np.full(shape_of(case), np.nan, np.float32)
    bind(case, weights, src, dst=y, **more)()
    return y


def transformed(case: ConvCase) -> tuple[list[Array], list[Array]]:
    """Levels without zero point, int64, and scales of the four lines of every pair."""
    d, zero = case.data(), 128 if case.signed else 0
    top, bottom = case.pads[0], case.pads[2] + 1
    border = ((0, 0), (top, bottom), (0, 0), (0, 0))
    levels, scale = np.pad(d["q"].astype(np.int64) - zero, border), np.pad(d["scale"], border)
    pairs = (shape_of(case)[1] + 1) // 2
    s = np.stack([scale[:, i : i + 2 * pairs : 2][:, :pairs] for i in LINES])
    most = s.max(axis=0)
    by = np.divide(np.float32(16384), most, out=np.zeros_like(most), where=most >= 2.0**-100)
    r = np.repeat(np.rint(s * by).astype(np.int64), case.window or 0, axis=-1)
    lines = [levels[:, i : i + 2 * pairs : 2][:, :pairs] << 7 for i in LINES]
    v = [((lines[i] * r[i] >> 14) + 1) >> 1 for i in LINES]
    qs, scales = [], []
    for i, line in enumerate((v[0] - v[2], v[1] + v[2], v[2] - v[1], v[1] - v[3])):
        limit, middle = (255, 0) if i == SUM and not zero else (127, 128)
        windows = line.reshape(*line.shape[:3], -1, case.window or 0)
        m = np.maximum(np.abs(windows).max(axis=-1, keepdims=True), 1).astype(np.float32)
        ratio = np.rint(np.minimum(np.float32(limit * 32768) / m, np.float32(32767)))
        q = middle + (((windows * ratio.astype(np.int64) >> 14) + 1) >> 1)
        qs.append(np.clip(q, 0, 255).reshape(line.shape) - middle)
        unit = most / np.float32(64)
        scales.append(unit * (np.float32(32768) / ratio[..., 0].astype(np.float32)))
    return qs, scales


def sums(case: ConvCase, qw: Array, scale: Array) -> tuple[Array, Array]:
    """What the paragraph makes of them in float64, and sums of absolute products."""
    x, total = [], []
    flat = replace(case, pads=(0, case.pads[1], 0, case.pads[3]))
    for i, (q, s) in enumerate(zip(*transformed(case), strict=True)):
        a = q * spread(s, case.window or 0, case.icg)
        w = (qw[i] * scale[i][:, None, None].astype(np.float64))[:, None]
        x.append(convolve(a, w, flat))
        total.append(convolve(np.abs(a), np.abs(w), flat))
    bias, (n, oh, ow, oc) = case.data()["bias"], shape_of(case)
    both = [np.stack((z[0] + z[1] + z[2], z[3] + z[1] + sign * z[2]), axis=2)
            for z, sign in ((x, -1), (total, 1))]  # fmt: skip
    y, budget = (z.reshape(n, -1, ow, oc)[:, :oh] for z in both)
    return y + bias, budget + np.abs(bias)


@settings(max_examples=30)
@given(cases())
def test_sums_are_those_of_the_paragraph(case: ConvCase) -> None:
    qw, scale = weights_of(case)
    want, total = sums(case, qw, scale)
    y = run(case, pack(case, "scalar", qw, scale))
    assert np.all(np.abs(y - want) <= FLOAT_BUDGET * total)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("signed", [False, True])
@settings(max_examples=8)
@given(case=cases())
def test_lines_are_exactly_those_of_the_paragraph(case: ConvCase, line: int, signed: bool) -> None:
    """Weights that take one line and nothing else, channel by channel."""
    pads = (case.pads[0], 1, case.pads[2], 1)
    case = replace(case, ocg=case.icg, pads=pads, signed=signed, arrays={})
    qw, scale = np.zeros((4, case.ocg, 3, case.icg), np.int8), np.ones((4, case.ocg), np.float32)
    qw[line, :, 1] = np.eye(case.icg)
    q, unit = (part[line] for part in transformed(case))
    want = q.astype(np.float32) * np.repeat(unit, case.window or 0, axis=-1)
    row = 1 if line == 3 else 0  # of a pair
    for isa in kernels.isas():
        y = run(case, pack(case, isa, qw, scale), bias=None)[:, row::2]
        np.testing.assert_array_equal(y, want[:, : y.shape[1]], err_msg=isa)


@st.composite
def residuals(draw: st.DrawFn) -> tuple[int, int] | str | None:
    """None, float32, or windows and what they call signed."""
    windows = st.tuples(st.sampled_from((16, 32, 128, 1000)), SIGNS)
    return draw(st.none() | st.just("float32") | windows)


def residual_of(case: ConvCase, kind: tuple[int, int] | str | None) -> Array | QTensor | None:
    x = np.random.default_rng(case.seed).standard_normal(shape_of(case), np.float32)
    if not isinstance(kind, tuple):
        return x if kind else None
    tensor = QTensor(x.shape, *kind, (0, 1, 0, 1))
    Quantize(x, tensor, Pool(1))()
    return tensor


@given(cases(), residuals(), st.sampled_from(ACTIVATIONS), st.integers(0, 2), st.integers(0, 1))
def test_every_isa_gives_the_same_bytes(
    case: ConvCase, kind: tuple[int, int] | str | None, activation: str, before: int, wider: int
) -> None:
    """Also of the second part of a concatenation, and with a residual and an activation."""
    case, levels = replace(case, activation=activation), weights_of(case)
    residual = residual_of(case, kind)
    first, *others = kernels.isas()
    want = run(replace(case, threads=1), pack(case, first, *levels), residual=residual)
    for isa in others:
        src = source(case, before, wider)
        y = run(case, pack(case, isa, *levels), src, residual=residual)
        assert y.tobytes() == want.tobytes(), isa


@settings(max_examples=40)
@given(cases(), st.sampled_from((16, 24, 32, 128, 1000)), SIGNS, residuals())
def test_windows_are_those_of_the_stored_result(
    case: ConvCase, window: int, signed: int, kind: tuple[int, int] | str | None
) -> None:
    levels, residual = weights_of(case), residual_of(case, kind)
    y = run(case, pack(case, "scalar", *levels), residual=residual)
    with kernels.use_isa("scalar"):
        q, scale = kernels.quantize_windows(y, window, signed)
    for isa in kernels.isas():
        weights = pack(case, isa, *levels)
        for dst in (None, np.empty_like(y)):
            dst_q = QTensor(y.shape, window, signed, (1, 0, 1, 0))
            bind(case, weights, residual=residual, dst=dst, dst_q=dst_q)()
            assert dst_q.q.tobytes() == q.tobytes(), isa
            assert dst_q.scale.tobytes() == scale.tobytes(), isa


@given(cases(), st.sampled_from(("none", "relu", "clip")))
def test_residual_and_activation_follow_the_sums(case: ConvCase, activation: str) -> None:
    weights = pack(case, kernels.isa(), *weights_of(case))
    residual = residual_of(case, "float32")
    want = run(case, weights) + residual
    if activation != "none":
        want = np.clip(want, *((0, np.inf) if activation == "relu" else (-1, 2)))
    case = replace(case, activation=activation)
    np.testing.assert_array_equal(run(case, weights, residual=residual), want)


def halved(shape: tuple[int, ...], ceil: tuple[bool, bool]) -> dict[str, Any]:
    """Maxima of 2 x 2 pixels at stride 2, the last row and column cut or not."""
    out = tuple(max(1, (s + up) // 2) for s, up in zip(shape[1:3], ceil, strict=True))
    return {"kernel": (2, 2), "strides": (2, 2), "out_shape": out}


@settings(max_examples=40)
@given(
    cases(),
    st.tuples(st.booleans(), st.booleans()),
    st.sampled_from(("relu", "clip")),
    st.sampled_from((16, 24, 64)),
)
def test_maximum_behind_it_has_the_bits_of_both_steps(
    case: ConvCase, ceil: tuple[bool, bool], activation: str, window: int
) -> None:
    case, levels = replace(case, activation=activation), weights_of(case)
    geometry, bounds = halved(shape_of(case), ceil), {"lo": 0.5, "hi": 4.0}
    shape = (case.n, *geometry["out_shape"], case.ocg)
    y, want = run(case, pack(case, "scalar", *levels), **bounds), np.empty(shape, np.float32)
    pads, want_q = (0, 0, 1, 1), QTensor(shape, window, False)
    Pooling(y, "max", **geometry, pads=pads, dst=want, dst_q=want_q, pool=Pool(1))()
    for isa in kernels.isas():
        weights, dst = pack(case, isa, *levels), np.empty_like(want)
        dst_q = QTensor(shape, window, False)
        bind(case, weights, max_pool=MaxPool(**geometry), dst=dst, **bounds)()
        bind(case, weights, max_pool=MaxPool(**geometry), dst_q=dst_q, **bounds)()
        assert dst.tobytes() == want.tobytes(), isa
        assert dst_q.q.tobytes() == want_q.q.tobytes(), isa
        assert dst_q.scale.tobytes() == want_q.scale.tobytes(), isa


@settings(max_examples=30)
@given(cases(), st.booleans())
def test_foreign_product_has_the_same_bytes(mkl_gemm: int, case: ConvCase, pooled: bool) -> None:
    case, levels = replace(case, activation="relu"), weights_of(case)
    for isa in kernels.isas():
        weights, found = pack(case, isa, *levels), []
        for gemm in (None, mkl_gemm):
            options = {}
            dst = np.empty(shape_of(case), np.float32)
            if pooled:
                geometry = halved(dst.shape, (True, True))
                options["max_pool"] = MaxPool(**geometry)
                dst = np.empty((case.n, *geometry["out_shape"], case.ocg), np.float32)
            bind(case, weights, dst=dst, gemm=gemm, **options)()
            found.append(dst.tobytes())
        assert found[0] == found[1], isa


BANDS = [
    {"size": (51, 30), "icg": 192, "ocg": 16, "window": 64},  # some bands
    {"size": (11, 20), "icg": 32, "ocg": 300, "window": 32},  # some blocks
    {"n": 2, "size": (9, 15), "icg": 256, "ocg": 300, "window": 128},  # of weights beyond L2
]


@pytest.mark.parametrize("layer", BANDS)
def test_bands_and_blocks_are_the_same_for_every_number_of_threads(layer: dict[str, Any]) -> None:
    case = ConvCase(7, **layer)
    levels = weights_of(case)
    first, *others = kernels.isas()
    want = run(case, pack(case, first, *levels)).tobytes()
    for threads in (1, 2, 3):
        for isa in others:
            y = run(replace(case, threads=threads), pack(case, isa, *levels))
            assert y.tobytes() == want, (isa, threads)


@given(cases(("normal",)), st.integers(-40, 40))
def test_power_of_two_of_the_input_is_one_of_the_output(case: ConvCase, exponent: int) -> None:
    weights, src = pack(case, kernels.isa(), *weights_of(case)), source(case)
    y, factor = run(case, weights, src, bias=None), np.float32(2.0) ** np.float32(exponent)
    src.scale[...] *= factor
    np.testing.assert_array_equal(run(case, weights, src, bias=None), y * factor)


@settings(max_examples=30)
@given(cases(("normal", "zeros")))
def test_result_is_close_to_the_direct_convolution(case: ConvCase) -> None:
    d = case.data()
    d["bias"][...] = 0
    want, _ = case.exact()
    y = run(case, pack(case, kernels.isa(), *transform_weights(d["qw"], d["sw"])))
    assert np.linalg.norm(y - want) <= CLOSE * np.linalg.norm(want)


@settings(max_examples=20)
@given(cases())
def test_mapped_weights_give_the_same_bytes(case: ConvCase) -> None:
    shape = (case.ocg, 3, 3, case.icg)
    for isa in kernels.isas():
        weights = pack(case, isa, *weights_of(case))
        with kernels.use_isa(isa):
            mapped = kernels.map_weights(
                weights.blob, shape, case.window, signed=case.signed, winograd=True
            )
        assert weights.winograd and mapped.winograd
        assert mapped.shape == weights.shape == shape
        assert run(case, mapped).tobytes() == run(case, weights).tobytes(), isa


USUAL = ConvCase(3, size=(7, 8), icg=64, ocg=40, window=32, activation="relu")


@pytest.mark.parametrize("line", range(4))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scale_that_is_no_number_reaches_the_result(isa: str, value: float, line: int) -> None:
    case = ConvCase(seed=1, size=(4, 40), icg=32, ocg=16, window=32, pads=(0,) * 4)
    src, weights = source(case), pack(case, isa, *weights_of(case))
    src.scale[0, line, 20] = value
    assert np.isnan(run(case, weights, src)[0, :, 18:21]).any(axis=(1, 2)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("max_pool", [None, MaxPool(**halved(shape_of(USUAL), (True, True)))])
def test_bias_that_is_no_number_is_refused(
    isa: str, value: float, max_pool: MaxPool | None
) -> None:
    weights, bias = pack(USUAL, isa, *weights_of(USUAL)), np.zeros(USUAL.ocg, np.float32)
    bias[3] = value
    size = (4, 4) if max_pool else USUAL.size
    dst_q = QTensor((USUAL.n, *size, USUAL.ocg), 16, False)
    with pytest.raises(KernelError, match="NaN or infinity"):
        bind(USUAL, weights, bias=bias, dst_q=dst_q, max_pool=max_pool)()


WEIGHTS: dict[str, dict[str, Any]] = {
    "one scale for an image": {"window": None},
    "weight windows": {"weight_window": 32},
    "groups": {"groups": 2},
    "int16": {"qw": np.zeros((4, 40, 3, 64), np.int16)},
    "a window that does not divide": {"window": 48},
    "a window of half a step": {"window": 16},
    "a window of no whole step": {"window": 100, "qw": np.zeros((4, 40, 3, 40), np.int8)},
    "a long window": {"window": 288, "qw": np.zeros((4, 40, 3, 288), np.int8)},
    "a skewed zero point": {"signed": 56},
    "three lines": {"qw": np.zeros((3, 40, 3, 64), np.int8)},
    "other kernels": {"qw": np.zeros((4, 40, 5, 64), np.int8)},
    "a matrix": {"qw": np.zeros((4, 64), np.int8)},
    "scales of one line": {"scale": np.ones(40, np.float32)},
    "scales of other channels": {"scale": np.ones((4, 41), np.float32)},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_wrong_weights_are_refused(name: str) -> None:
    qw, scale = weights_of(USUAL)
    options = {"qw": qw, "scale": scale, "window": 32, **WEIGHTS[name]}
    with pytest.raises(KernelError):
        kernels.pack_weights(**options, winograd=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (40, 3, 5, 64)}, {"shape": (40, 64)}, {"window": None}, {"weight_window": 32},
        {"groups": 2}, {"fine": True}, {"window": 48}, {"signed": 56}, {"window": 64},
        {"shape": (8, 3, 3, 64)}, {"winograd": False},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_blobs_of_weights_are_refused(wrong: dict[str, Any]) -> None:
    blob = pack(USUAL, kernels.isa(), *weights_of(USUAL)).blob
    options = {"shape": (40, 3, 3, 64), "window": 32, "winograd": True, **wrong}
    with pytest.raises(KernelError):
        kernels.map_weights(blob, **options)


def dense(case: ConvCase) -> Dense:
    return Dense(source(case), case.pack(), pads=case.pads)


def made(**changes: Any) -> ConvCase:
    return replace(USUAL, **changes, arrays={})


HALF = halved(shape_of(USUAL), (False, True))
LAYERS: list[tuple[str, tuple[int, int], dict[str, Any]]] = [
    ("expected 1, 1 and several", (4, 8), {"strides": (2, 1)}),
    ("expected 1, 1 and several", (7, 4), {"strides": (1, 2)}),
    ("expected 1, 1 and several", (5, 8), {"dilations": (2, 1)}),
    ("expected 1, 1 and several", (7, 6), {"dilations": (1, 2)}),
    ("expected 1, 1 and several", (7, 1), {"src": source(made(size=(7, 1)))}),
    ("expected depthwise weights", (7, 8), {"src": dense(made(ocg=64))}),
    ("adds another convolution", (7, 8), {"residual": dense(USUAL)}),
    ("src has 96 channels", (7, 8), {"src": source(made(icg=96))}),
    ("src has window 64", (7, 8), {"src": source(made(window=64))}),
    ("of 2 x 2", (3, 4), {"max_pool": MaxPool(**{**HALF, "kernel": (2, 3)})}),
    ("of 2 x 2", (3, 4), {"max_pool": MaxPool(**{**HALF, "strides": (1, 2)})}),
    ("of 2 x 2", (3, 4), {"max_pool": MaxPool(**HALF, pads=(1, 0, 0, 0))}),
    ("of 2 x 2", (3, 4), {"max_pool": MaxPool(**HALF, pads=(0, 1, 0, 0))}),
    ("below 0", (3, 4), {"max_pool": MaxPool(**HALF), "activation": "none"}),
    ("below 0", (3, 4), {"max_pool": MaxPool(**HALF), "activation": "leaky"}),
    ("below 0", (3, 4), {"max_pool": MaxPool(**HALF), "activation": "clip", "lo": -1.0}),
    ("residual", (3, 4), {"max_pool": MaxPool(**HALF), "residual": residual_of(USUAL, "float32")}),
]


@pytest.mark.parametrize(("message", "size", "wrong"), LAYERS)
def test_wrong_layers_are_refused(
    message: str, size: tuple[int, int], wrong: dict[str, Any]
) -> None:
    weights = pack(USUAL, kernels.isa(), *weights_of(USUAL))
    with pytest.raises(KernelError, match=message):
        bind(USUAL, weights, dst=np.empty((1, *size, USUAL.ocg), np.float32), **wrong)


def test_transformed_weights_make_no_part_of_another_layer() -> None:
    weights = pack(USUAL, kernels.isa(), *weights_of(USUAL))
    with pytest.raises(KernelError, match="has transformed weights"):
        Dense(source(USUAL), weights, pads=USUAL.pads)
