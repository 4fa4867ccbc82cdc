"""Stack: every row in its place, whatever the shapes of its neighbours."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spark_bridge.stack import Stack, stacked

shapes = st.lists(st.sampled_from([(2, 3), (3, 2), (4,)]), max_size=12)


@given(shapes, st.integers(1, 4), st.integers(0, 64))
def test_stack_keeps_rows_in_order_within_the_bounds(
    wanted: list[tuple[int, ...]], rows: int, max_bytes: int
) -> None:
    stack = Stack(rows, max_bytes)
    for i, shape in enumerate(wanted):
        stack.add({"x": np.full(shape, i, np.uint8), "size": np.array([i])})
    parts = stack.parts()
    found = [(int(s[0]), x) for part in parts for s, x in zip(part["size"], part["x"], strict=True)]
    assert [i for i, _ in found] == list(range(len(wanted)))
    assert all(x.shape == wanted[i] and (x == i).all() for i, x in found)
    for part in parts:
        assert 1 <= len(part["x"]) <= rows
        row_bytes = part["x"][0].nbytes + part["size"][0].nbytes
        assert len(part["x"]) == 1 or len(part["x"]) * row_bytes <= max_bytes


def test_stack_another_dtype_begins_new_arrays() -> None:
    row = np.arange(4)
    parts = stacked([{"x": row.astype(kind)} for kind in ("u1", "u1", "f4")], 1 << 20)
    assert [(len(part["x"]), part["x"].dtype.str) for part in parts] == [(2, "|u1"), (1, "<f4")]


def test_stack_of_no_rows_has_no_parts() -> None:
    assert stacked([], 1 << 20) == []
