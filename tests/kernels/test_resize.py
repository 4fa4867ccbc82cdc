"""Nearest neighbours: copies of pixels, of floats and of windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import KernelError
from accel.kernels import Nearest, Pool, QTensor, Quantize

Array = np.ndarray[Any, Any]


def image(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@given(
    st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 40)),
    st.data(),
    st.integers(1, 2),
)
def test_floats_are_those_of_the_chosen_pixels(
    shape: tuple[int, ...], data: st.DataObject, threads: int
) -> None:
    rows, columns = (data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=9))
                     for n in shape[1:3])  # fmt: skip
    x = image(shape)
    whole = np.zeros((shape[0], len(rows), len(columns), shape[3] + 3), np.float32)
    y = whole[..., 1 : 1 + shape[3]]
    Nearest(x, y, rows, columns, Pool(threads))()
    np.testing.assert_array_equal(y, x[:, rows][:, :, columns])
    assert not whole[..., 0].any()
    assert not whole[..., 1 + shape[3] :].any()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("part", [True, False])
def test_windows_and_border_are_those_of_the_resized_floats(signed: bool, part: bool) -> None:
    rows, columns = [0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]
    x, pool = image((2, 3, 2, 24)), Pool(2)
    src = QTensor(x.shape, 8, signed, (1, 0, 2, 1))
    Quantize(x, src, pool)()
    channels = 24 + (16 if part else 0)
    halo = (1, 2, 0, 1)
    whole = QTensor((2, 6, 6, channels), 8, signed, halo)
    whole = QTensor((2, 6, 6, channels), 8, signed, halo, whole.memory)  # shared from now on
    whole.memory[...] = 99
    dst = whole.channels(16, 40) if part else whole
    Nearest(src, dst, rows, columns, pool)()
    want = QTensor((2, 6, 6, 24), 8, signed, halo)
    Quantize(np.ascontiguousarray(x[:, rows][:, :, columns]), want, pool)()
    np.testing.assert_array_equal(dst.q, want.q)
    np.testing.assert_array_equal(dst.scale, want.scale)
    high, wide = 6 + halo[0] + halo[2], 6 + halo[1] + halo[3]
    bytes_ = whole.memory[: 2 * high * wide * channels].reshape(2, high, wide, channels)
    outside = np.ones((high, wide), bool)
    outside[halo[0] : halo[0] + 6, halo[1] : halo[1] + 6] = False
    assert (bytes_[:, outside, 16 if part else 0 :] == (128 if signed else 0)).all()


def windows(shape: tuple[int, ...] = (1, 2, 2, 8), window: int = 8, signed: bool = True) -> QTensor:
    return QTensor(shape, window, signed)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"rows": [0, 2]}, "rows is 2; expected 0 to 1"),
        ({"columns": [-1, 0]}, "columns is -1"),
        ({"rows": []}, "rows is empty"),
        ({"dst": np.zeros((1, 2, 3, 8), np.float32)}, "expected float32 of shape"),
        ({"dst": windows()}, "two arrays or two QTensors"),
        ({"src": np.zeros((2, 8), np.float32)}, r"expected \(N, H, W, C\)"),
        ({"src": np.zeros((0, 2, 2, 8), np.float32)}, "none of them 0"),
        ({"src": windows(), "dst": windows(window=4)}, "window and sign"),
        ({"src": windows(), "dst": windows(signed=False)}, "window and sign"),
        ({"src": windows(), "dst": QTensor((1, 2, 2, 3), None, True)}, "one scale"),
    ],
)
def test_nearest_of_bad_input_raises(given_: dict[str, Any], message: str) -> None:
    good = {
        "src": image((1, 2, 2, 8)), "dst": image((1, 2, 2, 8)), "rows": [0, 1], "columns": [0, 1],
    }  # fmt: skip
    with pytest.raises(KernelError, match=message):
        Nearest(**good | given_, pool=Pool())


def test_nearest_onto_itself_raises() -> None:
    x, q = image((1, 2, 2, 8)), windows()
    for same in (x, q):
        with pytest.raises(KernelError, match="overlap"):
            Nearest(same, same, [0, 1], [0, 1], Pool())
