"""A convolution with a maximum behind it: the bits of the two one after the other, from every
instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Conv, MaxPool, Pool, Pooling, QTensor, Quantize

Array = np.ndarray[Any, Any]
Case = dict[str, Any]
ACTIVATIONS = ("none", "relu", "clip", "leaky", "hardswish", "silu", "gelu")


@st.composite
def maxima(draw: st.DrawFn, size: tuple[int, int]) -> Case:
    """2x2 and 3x3 at stride 2 and others, padded or not, the last row and column cut or not."""
    kernel, strides = draw(
        st.sampled_from([((2, 2), (2, 2)), ((3, 3), (2, 2)), ((2, 3), (2, 2)), ((3, 4), (1, 3))])
    )
    pads = [draw(st.integers(0, min(1, s - 1))) for s in size]
    out = []
    for s, k, stride, pad in zip(size, kernel, strides, pads, strict=True):
        last = max(s + 2 * pad - k, 0) // stride
        ceil = draw(st.booleans()) and (last + 1) * stride - pad < s
        out.append(last + 1 + ceil)
    return {"kernel": kernel, "strides": strides, "pads": (*pads, *pads), "out_shape": tuple(out)}


@st.composite
def cases(draw: st.DrawFn, windows: bool) -> Case:
    size = draw(st.tuples(st.integers(1, 9), st.integers(2, 40)))
    activation = draw(st.sampled_from(ACTIVATIONS))
    ic = draw(st.integers(1, 40)) if windows else draw(st.integers(1, 4))
    return {
        "size": size,
        "ic": ic,
        "oc": draw(st.sampled_from([4, 8, 16, 32, 64]) | st.integers(1, 150)),
        "k": draw(st.sampled_from([1, 3, 5, 7])),
        "window": draw(st.integers(1, ic)) if windows else None,
        "weight_window": draw(st.none() | st.integers(1, ic)) if windows else None,
        "activation": activation,
        "zero": 0 if activation in ("relu", "clip") else draw(st.sampled_from([False, True, 56])),
        "dst_window": draw(st.integers(1, 70)),
        "threads": draw(st.integers(1, 3)),
        "max_pool": draw(maxima(size)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def layer(case: Case) -> Case:
    """What `Conv` is given, but for where its result goes."""
    rng = np.random.default_rng(case["seed"])
    ic, oc, k, window = case["ic"], case["oc"], case["k"], case["window"]
    shape, halo = (2, *case["size"], ic), (k // 2,) * 4
    src = QTensor(shape, window, True, halo, border=None if window else (7,) * ic)
    if window:
        Quantize(rng.standard_normal(shape, np.float32), src, Pool(1))()
    else:
        src.q[...] = rng.integers(0, 256, shape)
        src.image_scale[...] = rng.random(2)
    scales: tuple[int, ...] = (oc,)
    if case["weight_window"]:
        scales = (oc, k, k, -(-ic // case["weight_window"]))
    weights = kernels.pack_weights(
        rng.integers(-127, 128, (oc, k, k, ic)).astype(np.int8),
        rng.random(scales, np.float32) / 500,
        window,
        weight_window=case["weight_window"],
    )
    return {
        "src": src,
        "weights": weights,
        "pads": halo,
        "bias": rng.standard_normal(oc, np.float32),
        "activation": case["activation"],
        "alpha": -0.1,
        "lo": 0.5,
        "hi": 2.0,
        "pool": Pool(case["threads"]),
    }


def apart(case: Case) -> list[Array]:
    """The convolution in float32, then the maximum, then both forms of the result."""
    given, geometry = layer(case), case["max_pool"]
    y = np.empty((2, *case["size"], case["oc"]), np.float32)
    Conv(**given, dst=y)()
    shape = (2, *geometry["out_shape"], case["oc"])
    dst, dst_q = np.empty(shape, np.float32), QTensor(shape, case["dst_window"], case["zero"])
    Pooling(y, "max", **geometry, dst=dst, dst_q=dst_q, pool=Pool(1))()
    return [dst, dst_q.q, dst_q.scale]


def together(case: Case) -> list[Array]:
    given, max_pool = layer(case), MaxPool(**case["max_pool"])
    shape = (2, *case["max_pool"]["out_shape"], case["oc"])
    dst, dst_q = np.empty(shape, np.float32), QTensor(shape, case["dst_window"], case["zero"])
    Conv(**given, max_pool=max_pool, dst=dst)()
    Conv(**given, max_pool=max_pool, dst_q=dst_q)()
    both = Conv(**given, max_pool=max_pool, dst=np.empty_like(dst), dst_q=dst_q)
    assert both.shape == shape
    return [dst, dst_q.q, dst_q.scale]


def check(case: Case) -> None:
    with kernels.use_isa("scalar"):
        want = apart(case)
    for isa in kernels.isas():
        with kernels.use_isa(isa):
            for a, b in zip(together(case), want, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=isa)


@given(case=cases(windows=True))
def test_maximum_behind_windows_has_the_bits_of_both_steps(case: Case) -> None:
    check(case)


@given(case=cases(windows=False))
def test_maximum_behind_a_first_layer_has_the_bits_of_both_steps(case: Case) -> None:
    check(case)


FIRST = {"size": (13, 37), "ic": 3, "oc": 64, "k": 3, "window": None, "weight_window": None}
DENSE = {"size": (13, 37), "ic": 24, "oc": 150, "k": 3, "window": 16, "weight_window": None}
USUAL = {"dst_window": 32, "threads": 2, "zero": 0, "activation": "relu", "seed": 0}
LARGE = {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "out_shape": (7, 19)}


@pytest.mark.parametrize("shape", [FIRST, {**FIRST, "k": 7, "ic": 3}, {**FIRST, "oc": 100}, DENSE])
@pytest.mark.parametrize("pad", [0, 1])
def test_maximum_of_usual_layers_has_the_bits_of_both_steps(shape: Case, pad: int) -> None:
    out = ((13 + 2 * pad - 3) // 2 + 1, (37 + 2 * pad - 3) // 2 + 1)
    check({**shape, **USUAL, "max_pool": {**LARGE, "pads": (pad,) * 4, "out_shape": out}})


@pytest.mark.parametrize("isa", kernels.isas())
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("activation", ["none", "relu", "leaky"])
@pytest.mark.parametrize("pixel", [(0, 0, 0), (1, 5, 6), (0, 12, 36)])
def test_maximum_of_one_value_that_is_no_number_is_refused(
    isa: str, value: float, activation: str, pixel: tuple[int, int, int]
) -> None:
    case = {**DENSE, **USUAL, "k": 1, "activation": activation, "zero": True, "max_pool": LARGE}
    with kernels.use_isa(isa):
        given = layer(case)
        given["weights"] = kernels.pack_weights(
            np.ones((150, 1, 1, 24), np.int8), np.ones(150, np.float32), 16
        )
        given["src"].q[pixel] = 255
        given["src"].scale[pixel] = value
        dst_q = QTensor((2, 7, 19, 150), 32, True)
        with pytest.raises(KernelError, match="NaN or infinity"):
            Conv(**given, max_pool=MaxPool(**LARGE), dst_q=dst_q)()
    with kernels.use_isa(isa), pytest.raises(KernelError, match="NaN or infinity"):
        given = layer({**FIRST, **USUAL, "max_pool": LARGE})
        given["bias"][3] = value
        Conv(**given, max_pool=MaxPool(**LARGE), dst_q=QTensor((2, 7, 19, 64), 32, False))()


def test_maximum_that_no_kernel_takes_is_refused() -> None:
    for wrong in (
        {"kernel": (5, 3)},
        {"pads": (3, 0, 0, 0)},
        {"pads": (0, 0, 0, 3)},
        {"strides": (0, 1)},
    ):
        with pytest.raises(KernelError):
            MaxPool(**{**LARGE, **wrong})
    case = {**DENSE, **USUAL, "max_pool": LARGE}
    given, dst = layer(case), np.empty((2, 7, 19, 150), np.float32)
    Conv(**given, max_pool=MaxPool(**LARGE), dst=dst)
    with pytest.raises(KernelError, match="residual"):
        Conv(**given, max_pool=MaxPool(**LARGE), dst=dst, residual=dst.copy())
    with pytest.raises(KernelError, match="sees no pixel"):
        Conv(**given, max_pool=MaxPool(**{**LARGE, "out_shape": (9, 19)}), dst=dst)
    with pytest.raises(KernelError, match="shape"):
        Conv(**given, max_pool=MaxPool(**{**LARGE, "out_shape": (6, 19)}), dst=dst)
    channels = kernels.pack_weights(
        np.ones((24, 3, 3, 1), np.int8), np.ones(24, np.float32), 16, groups=24
    )
    with pytest.raises(KernelError, match="one group"):
        Conv(**{**given, "weights": channels, "bias": None}, max_pool=MaxPool(**LARGE), dst=dst)
    narrow = layer({**case, "size": (13, 1)})
    with pytest.raises(KernelError, match="several columns"):
        Conv(**narrow, max_pool=MaxPool(**{**LARGE, "out_shape": (7, 1)}), dst=dst[:, :, :1])
