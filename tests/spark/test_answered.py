"""Answered: small batches leave together, large or late ones at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import accel
from spark_bridge.answered import BYTES, ROWS, SECONDS, Answered
from spark_bridge.meta import Meta
from spark_bridge.rows import RowError
from spark_bridge.settings import Settings
from spark_bridge.ship import ModelRef
from spark_bridge.spec import Spec

SPEC = Spec(
    ModelRef("digest", 0, "model"), "tensor", "features", {"x": "x"},
    {"x": accel.TensorSpec("x", (2,), np.dtype(np.float32))}, "y", 1, None, None, False, None,
    Settings(), meta=True,
)  # fmt: skip


def batch(first: int, rows: int) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(range(first, first + rows))})


def features(first: int, rows: int, size: int = 2) -> list[dict[str, np.ndarray]]:
    return [{"f": np.full(size, i, np.float32)} for i in range(first, first + rows)]


def test_answered_batches_leave_together_with_their_answers_and_meta() -> None:
    answered = Answered(SPEC)
    answered.add(batch(0, 3), [*features(0, 2), RowError("EMPTY", "decode", "no")],
                 Meta(["cpu", "cpu", None], infer_s=3e-6))  # fmt: skip
    answered.add(batch(3, 1), [*features(3, 1)], Meta(["mkl"], infer_s=2e-6))
    assert len(answered) == 4 and not answered.is_due
    found = answered.take()
    rows = found.column("y").to_pylist()
    assert found.column("id").to_pylist() == [0, 1, 2, 3] and len(answered) == 0
    first = [row["features"] and np.frombuffer(row["features"], "<f4")[0] for row in rows]
    assert first == [0, 1, None, 3] and rows[2]["error"]["code"] == "EMPTY"
    assert [row["meta"]["device"] for row in rows] == ["cpu", "cpu", None, "mkl"]
    assert [row["meta"]["batch"] for row in rows] == [3, 3, 3, 1]
    assert [row["meta"]["infer_us"] for row in rows] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("rows", "size", "meta"),
    [(ROWS, 1, Meta()), (1, BYTES // 4, Meta()), (1, 1, Meta(infer_s=SECONDS))],
    ids=["rows", "bytes", "time"],
)
def test_answered_enough_or_slow_batches_are_due(rows: int, size: int, meta: Meta) -> None:
    answered = Answered(replace(SPEC, meta=False))
    answered.add(batch(0, rows), [*features(0, rows, size)], replace(meta, devices=["cpu"] * rows))
    assert answered.is_due


def test_answered_bytes_of_what_has_left_are_not_counted() -> None:
    answered = Answered(replace(SPEC, meta=False))
    answered.add(batch(0, 1), [*features(0, 1, BYTES)], Meta(["cpu"]))
    answered.take()
    answered.add(batch(1, 1), [*features(1, 1)], Meta(["cpu"]))
    assert not answered.is_due and answered.take().column("id").to_pylist() == [1]
