"""Predictions on an RDD of anything: bytes, (key, bytes), arrays or Rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from pyspark.sql import Row, SparkSession

from accel.errors import InputError
from accel.images import ImageChain
from spark_bridge import core, worker
from spark_bridge.query import Labels, build_spec
from spark_bridge.results import to_arrow
from spark_bridge.ship import ModelLike
from spark_bridge.spec import Spec


def map_partitions(
    model: ModelLike,
    backend: str | None = None,
    batch_size: int | None = 32,
    threads: int | None = None,
    key: str | None = None,
    *,
    input: str = "content",
    output: str = "prediction",
    kind: str | None = None,
    task: str = "classify",
    top_k: int = 1,
    labels: Labels | None = None,
    chain: ImageChain | None = None,
    on_error: str | None = None,
    fallback: Sequence[str] | None = None,
    meta: bool | None = None,
    min_score: float | None = None,
) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A function for ``rdd.mapPartitions``.

    Parameters
    ----------
    key : for items that are Rows: the field that names the row in the result.
    input : for items that are Rows: the field that feeds the model.
    kind : default: "image" for a model of uint8 (N, H, W, C) input, else "tensor".
    others : as for `spark_bridge.predict`; the session's settings are read now.

    Returns
    -------
    A function from items to predictions, in the same order, one for each:

    ==================  =====================================================
    item                result
    ==================  =====================================================
    bytes or ndarray    prediction
    (key, either)       (key, prediction)
    Row                 the Row with the field `output`, or with `key` given,
                        (row[key], prediction)
    ==================  =====================================================

    A prediction is a Row with the fields of `spark_bridge.results.result_type`.

    Raises
    ------
    InputError, ModelError, DeviceError, UnsupportedError
        Here, before any job starts. A model with several inputs needs `spark_bridge.predict`.
    """
    spark = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    spec = build_spec(
        spark, model, input, output=output, kind=kind, task=task, top_k=top_k, labels=labels,
        chain=chain, backend=backend, batch_size=batch_size, threads=threads, on_error=on_error,
        fallback=fallback, meta=meta, min_score=min_score,
    )  # fmt: skip

    def predict_partition(items: Iterable[Any]) -> Iterator[Any]:
        name, field = next(iter(spec.columns.items()))
        pairs = ((item, _content(item, field)) for item in items)
        with worker.task(spec) as guard:
            for chunk in _chunks(pairs, core.batch_rows(spec), spec.settings.batch_bytes):
                answers, meta = core.answer([{name: value} for _, value in chunk], spec, guard)
                results = to_arrow(answers, spec, [meta]).to_pylist()  # as the DataFrame's struct
                for (item, _), result in zip(chunk, results, strict=True):
                    yield _answer(item, _row(result), spec, key)

    return predict_partition


def _chunks(
    pairs: Iterable[tuple[Any, Any]], rows: int, max_bytes: int
) -> Iterator[list[tuple[Any, Any]]]:
    """Items with their content, a batch at a time, within the bounds (one larger stands alone)."""
    held: list[tuple[Any, Any]] = []
    size = 0
    for pair in pairs:
        content_size = _size(pair[1])
        if held and (len(held) == rows or size + content_size > max_bytes):
            yield held
            held, size = [], 0
        held.append(pair)
        size += content_size
    if held:
        yield held


def _size(content: Any) -> int:
    """Bytes of one content; lists of numbers are not counted."""
    if isinstance(content, (memoryview, np.ndarray)):
        return content.nbytes
    return len(content) if isinstance(content, (bytes, bytearray)) else 0


def _content(item: Any, field: str) -> Any:
    """What feeds the model, in whatever form the item came."""
    if isinstance(item, Row):
        return _field(item, field)
    if isinstance(item, tuple):
        if len(item) != 2:
            raise InputError(f"a tuple of {len(item)} items; expected (key, content)")
        return item[1]
    return item


def _answer(item: Any, prediction: Row, spec: Spec, key: str | None) -> Any:
    """The prediction in the form that belongs to the item."""
    if isinstance(item, Row):
        if key is not None:
            return _field(item, key), prediction
        return Row(**item.asDict(), **{spec.output: prediction})
    return (item[0], prediction) if isinstance(item, tuple) else prediction


def _field(row: Row, name: str) -> Any:
    if name not in row:
        raise InputError(f"no field {name!r} in the Row; fields: {', '.join(row.__fields__)}")
    return row[name]


def _row(value: Any) -> Any:
    """Rows for the structs, at any depth."""
    if isinstance(value, dict):
        return Row(**{name: _row(v) for name, v in value.items()})
    return [_row(v) for v in value] if isinstance(value, list) else value
