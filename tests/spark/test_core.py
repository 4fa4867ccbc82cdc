"""Engine: one result for each row, in order, whatever goes wrong in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import accel
from accel.errors import CardError, InputError
from accel.order import Order
from spark_bridge import core
from spark_bridge.guard import Choice, Guard
from spark_bridge.settings import Settings
from spark_bridge.ship import ModelRef
from spark_bridge.spec import Spec

BATCH = 8
Execute = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


class FaultyProgram(accel.Program):
    """A program on two numbers a row, whose arithmetic is the test's."""

    def __init__(self, model: accel.Model, execute: Execute) -> None:
        super().__init__(Order(accel.device("onnxruntime"), model, BATCH))
        self._execute = execute  # type: ignore[method-assign]


def spec_of(model: accel.Model, **changes: Any) -> Spec:
    """A spec for tensors of `model` in column "x"."""
    inputs = {i.name: accel.TensorSpec(i.name, i.shape[1:], i.dtype) for i in model.inputs}
    spec = Spec(
        ModelRef(model.digest, 0, model.name), "tensor", "raw", dict.fromkeys(inputs, "x"),
        inputs, "y", 1, None, None, False, None, Settings(batch_size=BATCH),
    )  # fmt: skip
    return replace(spec, **changes)


def guard(program: accel.Program) -> Guard:
    """A guard of this program alone."""
    return Guard([Choice(program.device.name, lambda: program)])


def column(rows: list[bytes | None], pieces: int = 3) -> list[pa.RecordBatch]:
    whole = pa.record_batch({"id": pa.array(range(len(rows))), "x": pa.array(rows, pa.binary())})
    size = -(-len(rows) // pieces)
    return [whole.slice(start, size) for start in range(0, len(rows), size)]


def outputs(batches: list[pa.RecordBatch]) -> list[bytes | None]:
    answers = [a for b in batches for a in b.column("y").to_pylist()]
    return [None if a["error"] else a["tensors"][0]["data"] for a in answers]


@pytest.mark.parametrize("backend", ["cpu", "mkl"])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_run_int8_devices_equal_the_program_bit_for_bit_at_any_batch_size(
    cnn: accel.Model, pixels: np.ndarray, backend: str, batch_size: int
) -> None:
    expected = accel.device(backend).compile(cnn, batch_size=BATCH).run(pixels)
    program = accel.device(backend).compile(cnn, batch_size=batch_size)
    spec = spec_of(cnn, settings=Settings(batch_size=batch_size))
    rows = [image.tobytes() for image in pixels]
    found = list(core.run(column(rows), spec, guard(program)))
    assert [i for b in found for i in b.column("id").to_pylist()] == list(range(len(rows)))
    assert outputs(found) == [row.tobytes() for row in expected]


def test_run_bad_rows_cost_their_neighbours_nothing(cnn: accel.Model, pixels: np.ndarray) -> None:
    program = accel.device("cpu").compile(cnn, batch_size=BATCH)
    expected = program.run(pixels)
    rows: list[bytes | None] = [image.tobytes() for image in pixels]
    rows[0], rows[9], rows[39] = None, b"", b"short"
    found = outputs(list(core.run(column(rows), spec_of(cnn), guard(program))))
    assert [i for i, row in enumerate(found) if row is None] == [0, 9, 39]
    assert all(row is None or row == expected[i].tobytes() for i, row in enumerate(found))


def test_infer_halves_a_failing_batch_down_to_the_bad_row(fp32: accel.Model) -> None:
    calls = []

    def execute(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        calls.append(len(inputs["x"]))
        if (inputs["x"][:, 0, 0, 0] == 5).any():
            raise MemoryError("row five")
        return {"logits": inputs["x"][:, 0, :1, :10].reshape(BATCH, 10)}

    rows = {"x": np.empty((BATCH, 3, 16, 16), np.float32)}
    rows["x"][:] = np.arange(BATCH)[:, None, None, None]
    found = [row for row, _ in core.infer([rows], guard(FaultyProgram(fp32, execute)))]
    bad = [i for i, row in enumerate(found) if isinstance(row, core.RowError)]
    assert bad == [5] and str(found[5]) == "BACKEND at infer: MemoryError: row five"
    assert [int(row["logits"][0]) for i, row in enumerate(found) if i != 5] == [0, 1, 2, 3, 4, 6, 7]
    assert len(calls) == 7  # 8, then 4+4, 2+2, 1+1


def test_infer_card_error_is_tried_once_more_then_fails_the_task(fp32: accel.Model) -> None:
    failures = [CardError("stall"), None, CardError("stall"), CardError("stall")]

    def execute(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        failure = failures.pop(0)
        if failure is not None:
            raise failure
        return {"logits": np.zeros((BATCH, 10), np.float32)}

    rows = [{"x": np.zeros((BATCH, 3, 16, 16), np.float32)}]
    card = guard(FaultyProgram(fp32, execute))
    assert len(core.infer(rows, card)) == BATCH
    with pytest.raises(CardError, match="no device computed a batch: stall; let another"):
        core.infer(rows, card)


def test_run_not_a_number_stands_alone(fp32: accel.Model, rng: np.random.Generator) -> None:
    x = rng.normal(size=(BATCH, 3, 16, 16)).astype(np.float32)
    x[3, 0, 0, 0] = np.nan
    program = accel.device("onnxruntime").compile(fp32, batch_size=BATCH)
    rows: list[bytes | None] = [row.tobytes() for row in x]
    found = list(core.run(column(rows), spec_of(fp32), guard(program)))
    errors = [a["error"] for b in found for a in b.column("y").to_pylist()]
    assert [i for i, e in enumerate(errors) if e] == [3]
    assert errors[3]["code"] == "BACKEND" and "NaN" in errors[3]["message"]


def test_run_on_error_fail_names_the_row(cnn: accel.Model, pixels: np.ndarray) -> None:
    program = accel.device("cpu").compile(cnn, batch_size=BATCH)
    strict = spec_of(cnn, settings=Settings(batch_size=BATCH, on_error="fail"))
    rows: list[bytes | None] = [pixels[0].tobytes(), None]
    with pytest.raises(InputError, match="row 1 of a batch of 2: NULL_INPUT"):
        list(core.run(column(rows, 1), strict, guard(program)))


def test_run_no_rows_gives_no_batches(cnn: accel.Model) -> None:
    program = accel.device("cpu").compile(cnn)
    empty = pa.record_batch({"x": pa.array([], pa.binary())})
    assert list(core.run([empty, empty], spec_of(cnn), guard(program))) == []


def test_batch_rows_shrinks_to_the_byte_limit(cnn: accel.Model) -> None:
    row_bytes = 16 * 16 * 3
    few = spec_of(cnn, settings=Settings(batch_size=32, batch_bytes=5 * row_bytes + 1))
    none = spec_of(cnn, settings=Settings(batch_size=32, batch_bytes=1))
    assert core.batch_rows(few) == 5 and core.batch_rows(none) == 1


def test_run_classify_ranks_by_score_then_label(fp32: accel.Model) -> None:
    scores = np.array([1, 3, 3, 0, 2, -1, -1, -1, -1, -1], np.float32)

    def execute(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"logits": np.tile(scores, (BATCH, 1))}

    names = tuple("abcdefghij")
    spec = spec_of(fp32, task="classify", top_k=3, labels=names)
    rows: list[bytes | None] = [np.zeros((3, 16, 16), np.float32).tobytes()]
    batch = next(core.run(column(rows, 1), spec, guard(FaultyProgram(fp32, execute))))
    answer = batch.column("y").to_pylist()[0]
    assert (answer["label"], answer["name"], answer["score"]) == (1, "b", 3.0)
    assert [(t["label"], t["name"]) for t in answer["topk"]] == [(1, "b"), (2, "c"), (4, "e")]
