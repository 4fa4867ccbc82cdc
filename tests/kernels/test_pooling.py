"""Pooling: every instruction set against NumPy float64 and against the scalar reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracle import SIGNS

from accel import kernels
from accel.errors import KernelError

Array = np.ndarray[Any, Any]
POOL = kernels.Pool(2)


def expected(x: Array, op: str, geometry: dict[str, Any], count_pads: bool) -> Array:
    """Pooling by definition, in float64."""
    n, h, w, c = x.shape
    (oh, ow), (kh, kw) = geometry["out_shape"], geometry["kernel"]
    (sh, sw), (top, left, bottom, right) = geometry["strides"], geometry["pads"]
    y = np.zeros((n, oh, ow, c))
    for i in range(oh):
        for j in range(ow):
            rows = list(range(i * sh - top, i * sh - top + kh))
            cols = list(range(j * sw - left, j * sw - left + kw))
            inside = x[:, [r for r in rows if 0 <= r < h]][:, :, [q for q in cols if 0 <= q < w]]
            inside = inside.reshape(n, -1, c).astype(np.float64)
            counted = len([r for r in rows if r < h + bottom]) * len(
                [q for q in cols if q < w + right]
            )
            if op == "max":
                y[:, i, j] = inside.max(axis=1)
            else:
                y[:, i, j] = inside.sum(axis=1) / (counted if count_pads else inside.shape[1])
    return y


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    size = [draw(st.integers(1, 9)) for _ in "hw"]
    kernel = [min(draw(st.integers(1, 4)), s) for s in size]
    pads = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    strides = [draw(st.integers(1, 3)) for _ in "hw"]
    out = [(s + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i, s in enumerate(size)]
    return {"size": size, "kernel": kernel, "pads": pads, "strides": strides, "out_shape": out}


@given(
    geometry=geometries(),
    channels=st.integers(1, 70),
    window=st.integers(1, 40),
    signed=SIGNS,
    op=st.sampled_from(["max", "average"]),
    count_pads=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_pooling_equals_numpy_and_all_sets_agree(
    geometry: dict[str, Any],
    channels: int,
    window: int,
    signed: int,
    op: str,
    count_pads: bool,
    seed: int,
) -> None:
    size = geometry.pop("size")
    shape = (2, *size, channels)
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    x = x if signed else np.abs(x)
    out_shape = (2, *geometry["out_shape"], channels)
    found = {}
    for isa in kernels.isas():
        with kernels.use_isa(isa):
            source = kernels.QTensor(shape, window, signed, halo=(1, 0, 0, 2))
            kernels.Quantize(x, source, POOL)()
            real = kernels.dequantize_windows(
                np.ascontiguousarray(source.q), np.ascontiguousarray(source.scale), window, signed
            )
            from_q, from_f = np.zeros(out_shape, np.float32), np.zeros(out_shape, np.float32)
            target = kernels.QTensor(out_shape, window, signed)
            options = {**geometry, "count_pads": count_pads, "pool": POOL}
            kernels.Pooling(source, op, dst=from_q, dst_q=target, **options)()
            kernels.Pooling(x, op, dst=from_f, **options)()
        np.testing.assert_allclose(from_q, expected(real, op, geometry, count_pads), atol=1e-5)
        np.testing.assert_allclose(from_f, expected(x, op, geometry, count_pads), atol=1e-5)
        found[isa] = (from_q, from_f, target.q.copy(), target.scale.copy())
    for parts in found.values():
        for got, want in zip(parts, found["scalar"], strict=True):
            np.testing.assert_array_equal(got, want)


def test_pooling_writes_into_a_slice_of_channels(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 4, 4, 8)).astype(np.float32)
    whole = np.zeros((1, 2, 2, 20), np.float32)
    options: dict[str, Any] = {"kernel": (2, 2), "strides": (2, 2), "out_shape": (2, 2)}
    kernels.Pooling(x, "max", dst=whole[..., 5:13], pool=POOL, **options)()
    np.testing.assert_array_equal(whole[..., 5:13], x.reshape(1, 2, 2, 2, 2, 8).max(axis=(2, 4)))
    assert not whole[..., :5].any() and not whole[..., 13:].any()


def test_infinite_result_is_refused_by_the_quantized_target() -> None:
    x = np.full((1, 2, 2, 4), np.inf, np.float32)
    target = kernels.QTensor((1, 1, 1, 4), 4, True)
    pooling = kernels.Pooling(x, "max", kernel=(2, 2), out_shape=(1, 1), dst_q=target, pool=POOL)
    with pytest.raises(KernelError, match="NaN or infinity"):
        pooling()
    x[...] = 1
    pooling()
    assert (target.q == 255).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"op": "median"}, "op is"),
        ({"kernel": (0, 2)}, "kernel is 0"),
        ({"kernel": (2,)}, "kernel has 1"),
        ({"out_shape": (9, 2)}, "sees no pixel"),
        ({"pads": (-1, 0, 0, 0)}, "pads is -1"),
        ({"dst": None}, "neither dst nor dst_q"),
        ({"dst": np.zeros((1, 2, 2, 3), np.float32)}, "of shape"),
        ({"src": np.zeros((1, 4, 4, 4))}, "float64"),
        ({"src": np.zeros((1, 4, 4, 8), np.float32)[..., ::2]}, "adjacent channels"),
        ({"src": np.zeros((0, 4, 4, 4), np.float32)}, "size 0"),
        ({"src": np.zeros((4, 4), np.float32)}, "of shape"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    given_: dict[str, Any] = {
        "src": np.zeros((1, 4, 4, 4), np.float32),
        "op": "max",
        "kernel": (2, 2),
        "strides": (2, 2),
        "out_shape": (2, 2),
        "dst": np.zeros((1, 2, 2, 4), np.float32),
        "pool": POOL,
    } | change
    with pytest.raises(KernelError, match=message):
        kernels.Pooling(given_.pop("src"), given_.pop("op"), **given_)


def test_overlapping_memory_is_refused() -> None:
    x = np.zeros((1, 4, 4, 4), np.float32)
    with pytest.raises(KernelError, match="overlap"):
        kernels.Pooling(x, "max", kernel=(1, 1), out_shape=(4, 4), dst=x, pool=POOL)
