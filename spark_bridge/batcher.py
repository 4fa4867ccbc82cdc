"""Cut a stream of record batches into batches of the program's size.

Spark's batches are of its own choosing (up to 10,000 rows or 64 MB). Here every row keeps its
place, a batch has at most `rows` rows and at most `max_bytes` bytes (one larger row stands
alone), and never more than one of them is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def rebatch(
    batches: Iterable[pa.RecordBatch], rows: int, max_bytes: int, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Same rows, same order, other boundaries.

    Parameters
    ----------
    rows : most rows of a batch.
    max_bytes : most bytes of the `columns` of a batch.
    columns : the columns whose bytes count: those the program reads.
    """
    held: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        start = 0
        for i, row_size in enumerate(row_bytes(batch, columns)):
            if count == rows or (count and size + row_size > max_bytes):
                yield _join([*held, batch.slice(start, i - start)])
                held, start, count, size = [], i, 0, 0
            count, size = count + 1, size + int(row_size)
        held.append(batch.slice(start))
    if count:
        yield _join(held)


def row_bytes(batch: pa.RecordBatch, columns: Sequence[str]) -> npt.NDArray[np.int64]:
    """Bytes of each row in `columns`: (rows,) int64."""
    total = np.zeros(batch.num_rows, np.int64)
    for name in columns:
        total += _value_bytes(batch.column(name))
    return total


def _value_bytes(array: pa.Array) -> npt.NDArray[np.int64]:
    """Bytes of each value of a binary or list array; the average for lists of lists."""
    if is_list(array.type) and is_list(array.type.value_type):
        return np.full(len(array), array.nbytes // max(1, len(array)), np.int64)
    width = array.type.value_type.bit_width // 8 if is_list(array.type) else 1
    if not len(array):
        return np.empty(0, np.int64)
    kind = np.int64 if str(array.type).startswith("large_") else np.int32
    ends = np.frombuffer(array.buffers()[1], kind)[array.offset :][: len(array) + 1]
    return np.diff(ends).astype(np.int64) * width


def is_list(kind: pa.DataType) -> bool:
    """Whether Spark's array type came as this Arrow type."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _join(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch from several; copies only where rows come from more than one."""
    filled = [part for part in parts if part.num_rows]
    return filled[0] if len(filled) == 1 else pa.concat_batches(filled)
