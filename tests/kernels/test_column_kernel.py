"""Arithmetic of columns: against NumPy, and equal on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Columns, Pool

Array = np.ndarray[Any, Any]
ROUNDING = 1e-6
NONE = np.zeros((0, 3), np.float32)


def matrix(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 15, 256, 700])
@pytest.mark.parametrize("threads", [1, 2])
def test_columns_of_every_operator_equal_numpy(rows: int, threads: int) -> None:
    above, below, wide = matrix(2, 5, 2), matrix(2, rows - 1, 2), matrix(2, rows, 4)
    loads = [[above[:, :1].copy(), below], [wide]] if rows > 1 else [[above[:, :1].copy()], [wide]]
    constants = np.stack([np.full(rows, 2.5, np.float32), np.arange(rows, dtype=np.float32)])
    steps = [
        ("add", 0, 7), ("sub", 1, 2), ("mul", 3, 6), ("exp", 4, 4), ("div", 8, 11), ("max", 9, 5),
    ]  # fmt: skip
    y = np.zeros((2, rows, 8), np.float32)
    Columns(loads, constants, steps, [8, 9, 10, 11, 12, 13, 0, 7], y, Pool(threads))()
    c = [*np.moveaxis(np.concatenate(loads[0], 1), 2, 0), *np.moveaxis(wide, 2, 0)]
    fixed = np.broadcast_to(constants[1], (2, rows))
    sums = [c[0] + fixed, c[1] - c[2], c[3] * 2.5, np.exp(c[4])]
    want = [*sums, sums[0] / sums[3], np.maximum(sums[1], c[5]), c[0], fixed]
    np.testing.assert_allclose(y, np.stack(want, 2), rtol=ROUNDING)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
def test_columns_without_steps_are_copied(width: int) -> None:
    parts = [matrix(2, rows, width) for rows in (300, 1, 20)]
    y = np.zeros((2, 321, width), np.float32)
    Columns([parts], np.zeros((0, 321), np.float32), [], range(width), y, Pool(2))()
    np.testing.assert_array_equal(y, np.concatenate(parts, 1))
    Columns([parts], np.zeros((0, 321), np.float32), [], range(width)[::-1], y, Pool(2))()
    np.testing.assert_array_equal(y, np.concatenate(parts, 1)[..., ::-1])


def test_columns_of_every_isa_equal_scalar(isa: str) -> None:
    x, found = matrix(1, 300, 2), []
    steps = [("max", 0, 1), ("sub", 0, 2), ("exp", 3, 3), ("div", 4, 1), ("mul", 5, 0)]
    for name in ("scalar", isa):
        with kernels.use_isa(name):
            y = np.zeros((1, 300, 5), np.float32)
            Columns([[x]], np.zeros((0, 300), np.float32), steps, range(2, 7), y, Pool())()
            found.append(y.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"loads": [[matrix(1, 2, 2)]]}, "a load has 2 rows; expected 3"),
        ({"loads": [[matrix(2, 3, 2)]]}, r"expected \(1, rows, 2\)"),
        ({"loads": [[matrix(1, 2, 2), matrix(1, 1, 3)]]}, r"expected \(1, rows, 2\)"),
        ({"loads": [[matrix(3, 2)]]}, "expected 3 dimensions"),
        ({"constants": np.zeros((1, 4), np.float32)}, r"expected \(any, 3\)"),
        ({"steps": [("pow", 0, 1)]}, "op is 'pow'; expected one of"),
        ({"steps": [("add", 0, 2)]}, "b is 2; expected 0 to 1"),
        ({"steps": [("add", -1, 0)]}, "a is -1"),
        ({"result": [0, 2]}, "result is 2; expected 0 to 1"),
        ({"result": [0]}, "result has 1 columns and dst 2"),
        ({"result": [0] * 65, "dst": np.zeros((1, 3, 65), np.float32)}, "1 to 64"),
        ({"dst": np.zeros((1, 3, 2))}, "float64"),
    ],
)
def test_columns_of_bad_input_raise(given_: dict[str, Any], message: str) -> None:
    good = {
        "loads": [[matrix(1, 3, 2)]], "constants": NONE, "steps": [], "result": [0, 1],
        "dst": np.zeros((1, 3, 2), np.float32),
    }  # fmt: skip
    with pytest.raises(KernelError, match=message):
        Columns(**good | given_, pool=Pool())


def test_columns_onto_their_source_raise() -> None:
    x = matrix(1, 3, 2)
    with pytest.raises(KernelError, match="overlap"):
        Columns([[x]], NONE, [], [1, 0], x, Pool())
