"""Arrow columns made of NumPy arrays, bytes and text.

`pyarrow.array` does the same, but its first call imports pandas wherever that is installed, a
third of a second of every new Python worker. These functions hand over buffers instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from accel.errors import InputError

MAX_BYTES = (1 << 31) - 1  # of one column: offsets are int32, as Spark's
READ_ROWS = 32


def numbers(values: npt.NDArray[Any]) -> pa.Array:
    """A column of a flat array of numbers; shares its memory."""
    flat = np.ascontiguousarray(values)
    kind = pa.from_numpy_dtype(flat.dtype)
    return pa.Array.from_buffers(kind, len(flat), [None, pa.py_buffer(flat)])


def binary(values: Iterable[bytes | memoryview | None]) -> pa.BinaryArray:
    """A column of bytes, null for None.

    Raises
    ------
    InputError
        More than 2 GB.
    """
    return _joined(list(values), pa.binary())


def text(values: Iterable[str | None]) -> pa.StringArray:
    """A column of text, null for None.

    Raises
    ------
    InputError
        More than 2 GB.
    """
    return _joined([value if value is None else value.encode() for value in values], pa.string())


def read_rows(max_bytes: int) -> int:
    """Files of at most `max_bytes` that are read into one column."""
    return max(1, min(READ_ROWS, MAX_BYTES // max_bytes))


def offsets(items: Sequence[Any]) -> pa.Int32Array:
    """Where each item begins when all are laid end to end, and where the last one ends."""
    return numbers(_ends(items))


def _joined(values: Sequence[bytes | memoryview | None], kind: pa.DataType) -> pa.Array:
    filled = [value or b"" for value in values]
    valid = None
    if any(value is None for value in values):
        bits = np.packbits([value is not None for value in values], bitorder="little")
        valid = pa.py_buffer(bits)
    buffers = [valid, pa.py_buffer(_ends(filled)), pa.py_buffer(b"".join(filled))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _ends(items: Sequence[Any]) -> npt.NDArray[np.int32]:
    ends = np.fromiter(itertools.accumulate(map(len, items), initial=0), np.int64, len(items) + 1)
    if ends[-1] > MAX_BYTES:
        raise InputError(
            f"the results of {len(items)} rows take {ends[-1]} bytes; a column holds at most "
            f"{MAX_BYTES}: set a smaller spark.accel.batchSize"
        )
    return ends.astype(np.int32)
