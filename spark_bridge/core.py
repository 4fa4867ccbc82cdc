"""The engine under every face: values in, results out, one for one and in order.

A value that cannot be used becomes an error of its own row and costs its neighbours nothing. A
batch on which the program fails is halved until the bad row stands alone. A fault of the card
is no fault of a row: see `spark_bridge.guard`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

import accel
from accel.errors import CardError, InputError
from accel.images import ImageChain
from spark_bridge.answered import Answered
from spark_bridge.batcher import is_list, rebatch
from spark_bridge.detection import framed_row
from spark_bridge.files import read_path
from spark_bridge.guard import Arrays, Guard
from spark_bridge.isolated import decoder, is_careful
from spark_bridge.meta import Meta
from spark_bridge.results import Answer
from spark_bridge.rows import Row, RowError, image_row, over_good, tensor_row
from spark_bridge.spec import Spec
from spark_bridge.stack import Stack

Values = Mapping[str, object]  # what one row gives, by model input


def run(batches: Iterable[pa.RecordBatch], spec: Spec, guard: Guard) -> Iterator[pa.RecordBatch]:
    """Append the column of results to a stream of record batches.

    Parameters
    ----------
    batches : hold `spec.columns`; binary for images, binary or lists of numbers for tensors.

    Yields
    ------
    The same rows in the same order, in batches of a few hundred at most.

    Raises
    ------
    InputError
        `spec.settings.on_error` is "fail" and a row is bad.
    CardError
        No device could compute a batch.
    """
    columns = list(spec.columns.values())
    settings = spec.settings
    answered = Answered(spec)
    waiting = time.perf_counter()
    for batch in rebatch(batches, batch_rows(spec), settings.batch_bytes, columns):
        queue_s = time.perf_counter() - waiting
        answers, meta = answer(_values(batch, spec.columns), spec, guard)
        meta.queue_s = queue_s
        answered.add(batch, answers, meta)
        if answered.is_due:
            yield answered.take()
        waiting = time.perf_counter()
    if len(answered):
        yield answered.take()


def answer(values: Iterable[Values], spec: Spec, guard: Guard) -> tuple[list[Answer], Meta]:
    """Outputs or error of a few rows, one for each, and how they were computed."""
    started = time.perf_counter()
    stack = Stack(spec.settings.batch_size, spec.settings.batch_bytes)
    prepared = [_stack(value, spec, stack) for value in values]
    ready = time.perf_counter()
    pairs = over_good(prepared, lambda _: infer(stack.parts(), guard))
    done = time.perf_counter()
    answers = [pair if isinstance(pair, RowError) else pair[0] for pair in pairs]
    if spec.settings.on_error == "fail":
        raise_first(answers)
    devices = [None if isinstance(pair, RowError) else pair[1] for pair in pairs]
    return answers, Meta(devices, decode_s=ready - started, infer_s=done - ready)


def infer(parts: Iterable[Arrays], guard: Guard) -> list[tuple[Answer, str | None]]:
    """Outputs of each row by name, with the device that computed them; halves a batch that fails
    until the bad row is alone.

    Parameters
    ----------
    parts : rows as `Stack.parts` gives them.
    """
    return [pair for rows in parts for pair in _infer(rows, guard)]


def _infer(rows: Arrays, guard: Guard) -> list[tuple[Answer, str | None]]:
    count = len(next(iter(rows.values())))
    try:
        outputs, device = guard.run(rows)
        return [(row, device) for row in _split(outputs, count)]
    except CardError:
        raise
    except Exception as err:  # whatever an engine raises: the row carries it
        if count == 1:
            return [(RowError("BACKEND", "infer", f"{type(err).__name__}: {err}"), None)]
    halves = slice(None, count // 2), slice(count // 2, None)
    return infer(({name: a[half] for name, a in rows.items()} for half in halves), guard)


def batch_rows(spec: Spec) -> int:
    """Rows of a batch: fewer than asked where their decoded form would exceed batch_bytes."""
    row_bytes = sum(
        int(np.prod([d or 1 for d in i.shape])) * i.dtype.itemsize for i in spec.inputs.values()
    )
    return max(1, min(spec.settings.batch_size, spec.settings.batch_bytes // max(1, row_bytes)))


def _split(outputs: Row, count: int) -> Iterator[Row]:
    for i in range(count):
        yield {name: array[i] for name, array in outputs.items()}


def _stack(values: Values, spec: Spec, stack: Stack) -> RowError | None:
    """Put one row on the stack, or tell what is wrong with it."""
    try:
        stack.add(_prepare(values, spec))
    except RowError as err:
        return err
    return None


def _prepare(values: Values, spec: Spec) -> Row:
    """Arrays of one row by input name.

    Raises
    ------
    RowError
    """
    if spec.detector is not None:
        (name,) = spec.columns
        return framed_row(decoded(values[name], spec), spec.inputs[name], spec.detector)
    return {name: _convert(values[name], name, spec) for name in spec.columns}


def decoded(value: object, spec: Spec) -> np.ndarray[Any, Any]:
    """An image as it is: (H, W, 3) uint8.

    Raises
    ------
    RowError
    """
    return _image(value, spec, accel.TensorSpec("image", (None, None, 3), np.dtype(np.uint8)), None)


def _convert(value: object, name: str, spec: Spec) -> np.ndarray[Any, Any]:
    if spec.kind == "tensor":
        return tensor_row(value, spec.inputs[name])
    return _image(value, spec, spec.inputs[name], spec.chain)


def _image(
    value: object, spec: Spec, wanted: accel.TensorSpec, chain: ImageChain | None
) -> np.ndarray[Any, Any]:
    if spec.kind == "path":
        value = read_path(value, spec.settings.max_bytes)
    read = decoder.image_row if is_careful(spec.settings) else image_row
    return read(value, wanted, chain, spec.settings)


def _values(batch: pa.RecordBatch, columns: Mapping[str, str]) -> Iterator[Values]:
    """Rows of a record batch as Python values: bytes, or arrays for lists."""
    names = list(columns)
    read = [_column(batch.column(columns[name])) for name in names]
    for row in zip(*read, strict=True):
        yield dict(zip(names, row, strict=True))


def _column(array: pa.Array) -> list[object]:
    if not is_list(array.type):
        return list(array.to_pylist())
    return [_value(scalar) for scalar in array]


def _value(scalar: pa.Scalar) -> object:
    """A flat array for a list of numbers; null and other lists as they are."""
    if not scalar.is_valid:
        return scalar.as_py()
    flat = scalar.values
    if flat.null_count or is_list(flat.type):
        return scalar.as_py()
    return flat.to_numpy(zero_copy_only=False)


def raise_first(answers: Sequence[object]) -> None:
    """InputError where a row is bad."""
    for i, found in enumerate(answers):
        if isinstance(found, RowError):
            raise InputError(
                f"row {i} of a batch of {len(answers)}: {found}; "
                'correct the input, or keep such rows with on_error="keep"'
            )
