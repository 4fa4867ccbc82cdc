"""Batcher: same rows, same order, within the bounds, whatever Spark's own batches are."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from spark_bridge.batcher import rebatch, row_bytes

values = st.lists(st.lists(st.none() | st.binary(max_size=9), max_size=12), max_size=8)


def batches_of(parts: list[list[bytes | None]]) -> list[pa.RecordBatch]:
    return [pa.record_batch({"x": pa.array(part, pa.binary())}) for part in parts]


@given(values, st.integers(1, 7), st.integers(1, 20))
def test_rebatch_keeps_rows_in_order_within_bounds(
    parts: list[list[bytes | None]], rows: int, max_bytes: int
) -> None:
    out = [b.column("x").to_pylist() for b in rebatch(batches_of(parts), rows, max_bytes, ["x"])]
    assert [v for batch in out for v in batch] == [v for part in parts for v in part]
    for batch in out:
        assert 1 <= len(batch) <= rows
        assert len(batch) == 1 or sum(len(v or b"") for v in batch) <= max_bytes


@given(values, st.integers(1, 7))
def test_rebatch_without_byte_bound_fills_all_but_the_last(
    parts: list[list[bytes | None]], rows: int
) -> None:
    sizes = [b.num_rows for b in rebatch(batches_of(parts), rows, 1 << 30, ["x"])]
    assert all(size == rows for size in sizes[:-1])


def test_rebatch_holds_one_batch_only() -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield pa.record_batch({"x": pa.array([b"1"] * 5, pa.binary())})

    first = next(rebatch(endless(), 10, 1 << 30, ["x"]))  # type: ignore[arg-type]
    assert first.num_rows == 10 and taken <= 3


def test_row_bytes_counts_lists_and_binaries_of_slices() -> None:
    batch = pa.record_batch({
        "a": pa.array([[1.0], [1.0, 2.0], None], pa.list_(pa.float32())),
        "b": pa.array([b"12345", b"1", b"123"], pa.binary()),
    })  # fmt: skip
    assert row_bytes(batch, ["a", "b"]).tolist() == [9, 9, 3]
    assert row_bytes(batch.slice(1), ["b"]).tolist() == [1, 3]
