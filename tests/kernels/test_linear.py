"""Linear interpolation between pixels: against NumPy, and equal on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Linear, Pool

Array = np.ndarray[Any, Any]
EPSILON = 1e-6


def image(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def resized(x: Array, rows: list[float], columns: list[float]) -> Array:
    """In float64."""
    y = x.astype(np.float64)
    for axis, places in ((1, rows), (2, columns)):
        at = np.array(places, np.float32)
        low = np.floor(at).astype(int)
        high, part = np.minimum(low + 1, x.shape[axis] - 1), (at - low).astype(np.float64)
        part = part.reshape([-1 if i == axis else 1 for i in range(4)])
        y = y.take(low, axis) * (1 - part) + y.take(high, axis) * part
    return y


@given(
    st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 40)),
    st.data(),
    st.integers(1, 2),
)
def test_linear_pixels_lie_between_their_neighbours(
    shape: tuple[int, ...], data: st.DataObject, threads: int
) -> None:
    places = [st.one_of(st.floats(0, n - 1, width=32), st.integers(0, n - 1)) for n in shape[1:3]]
    rows, columns = (data.draw(st.lists(p, min_size=1, max_size=9)) for p in places)
    x = image(shape)
    whole = np.zeros((shape[0], len(rows), len(columns), shape[3] + 3), np.float32)
    y = whole[..., 1 : 1 + shape[3]]
    Linear(x, y, rows, columns, Pool(threads))()
    np.testing.assert_allclose(y, resized(x, rows, columns), rtol=0, atol=8 * EPSILON)
    assert not whole[..., 0].any()
    assert not whole[..., 1 + shape[3] :].any()


@pytest.mark.parametrize("channels", [1, 7, 16, 33])
def test_linear_of_every_isa_equals_scalar(channels: int, isa: str) -> None:
    x, places = image((2, 4, 5, channels)), np.linspace(0, 3, 11).tolist()
    found = []
    for name in ("scalar", isa):
        with kernels.use_isa(name):
            y = np.zeros((2, 11, 11, channels), np.float32)
            Linear(x, y, places, places, Pool())()
            found.append(y.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"rows": [0.0, 1.5]}, r"rows holds 1.5; expected 0 to 1"),
        ({"rows": [0.0, float("nan")]}, "rows holds nan"),
        ({"columns": [-0.25, 0.0]}, r"columns holds -0.25"),
        ({"rows": []}, "rows is empty"),
        ({"dst": np.zeros((1, 2, 3, 8), np.float32)}, "expected float32 of shape"),
        ({"src": np.zeros((2, 8), np.float32)}, r"expected \(N, H, W, C\)"),
        ({"src": np.zeros((1, 2, 2, 8))}, "float64"),
    ],
)
def test_linear_of_bad_input_raises(given_: dict[str, Any], message: str) -> None:
    good = {
        "src": image((1, 2, 2, 8)), "dst": image((1, 2, 2, 8)), "rows": [0, 1], "columns": [0, 1],
    }  # fmt: skip
    with pytest.raises(KernelError, match=message):
        Linear(**good | given_, pool=Pool())


def test_linear_onto_itself_raises() -> None:
    x = image((1, 2, 2, 8))
    with pytest.raises(KernelError, match="overlap"):
        Linear(x, x, [0, 1], [0, 1], Pool())
