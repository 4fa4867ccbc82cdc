"""The struct a row gets: its Arrow type, its Spark type, and how outputs fill it.

Every task has its own fields, and all end with `error`: null for a good row, else the reason,
with the other fields null; after it `meta` where the query asks for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import StructField

from spark_bridge.columns import binary, numbers, offsets, text
from spark_bridge.detection import BOX, boxes
from spark_bridge.meta import META, Meta, meta_column
from spark_bridge.rows import Row, RowError
from spark_bridge.spec import Spec

ERROR = pa.struct([("code", pa.string()), ("stage", pa.string()), ("message", pa.string())])
CLASS = [("label", pa.int32()), ("name", pa.string()), ("score", pa.float32())]
PROBABILITY = [("class", pa.string()), ("description", pa.string()), ("probability", pa.float32())]
TENSOR = pa.struct([("name", pa.string()), ("shape", pa.list_(pa.int32())), ("data", pa.binary())])
FIELDS = {
    "classify": [*CLASS, ("topk", pa.list_(pa.struct(CLASS)))],
    "classes": [("classes", pa.list_(pa.struct(PROBABILITY)))],
    "features": [("features", pa.binary()), ("dim", pa.int32())],
    "array": [("array", pa.list_(pa.float32()))],
    "detect": [("boxes", pa.list_(pa.struct(BOX)))],
    "raw": [("tensors", pa.list_(TENSOR))],
}
Answer = Row | RowError  # outputs of one row by name, or what is wrong with it
Array = np.ndarray[Any, Any]


def result_type(task: str, meta: bool = False) -> pa.StructType:
    """Arrow type of the results of a task.

    classify: label int, name string, score float (the model's own output at `label`: a
    probability only where the model ends in softmax), topk array<struct<label, name, score>>.
    classes: array<struct<class, description, probability>>, the most probable first; class is the
    identifier of the class, or its number as text.
    features: the first output, flat, as little-endian float32 bytes, and its length `dim`.
    array: the same as array<float>, for pyspark.ml; it moves 14 times slower than bytes.
    detect: array<struct<x1, y1, x2, y2, score, label, name>>, by falling score; corners in pixels
    of the image as it is decoded.
    raw: every output as struct<name, shape, data>, data little-endian float32 in C order.
    meta: device that computed the row, rows of its batch, attempt of the task (from 0), and the
    row's share of the microseconds its batch was waited for, decoded and computed.
    """
    return pa.struct([*FIELDS[task], ("error", ERROR), *([("meta", META)] if meta else [])])


def field(name: str, kind: pa.DataType) -> StructField:
    """A column of this Arrow type as Spark spells it; no call to Java, as for its DDL."""
    return StructField(name, from_arrow_type(kind))


def to_arrow(answers: Sequence[Answer], spec: Spec, metas: Sequence[Meta]) -> pa.StructArray:
    """The results of some rows, good and bad, as `result_type(spec.task, spec.meta)`.

    Columns are built whole, for the good rows alone, and then spread over all rows.
    """
    good = [answer for answer in answers if not isinstance(answer, RowError)]
    firsts = [next(iter(outputs.values())) for outputs in good]
    if spec.task == "classify":
        columns = _classify(firsts, spec)
    elif spec.task == "classes":
        columns = [_classes(firsts, spec)]
    elif spec.task == "features":
        columns = [as_bytes(firsts), sizes(firsts)]
    elif spec.task == "array":
        columns = [_lists(firsts)]
    elif spec.task == "detect":
        columns = [pa.ListArray.from_arrays(offsets(firsts), boxes(firsts))]
    else:
        columns = [_tensors(good)]
    columns = [*(spread(column, answers) for column in columns), errors(answers)]
    if spec.meta:
        columns.append(meta_column(metas))
    return pa.StructArray.from_arrays(columns, fields=list(result_type(spec.task, spec.meta)))


def _classify(outputs: Sequence[Array], spec: Spec) -> list[pa.Array]:
    """label, name, score and topk: the k highest scores, equal ones in order of their label."""
    labels, scores, starts = _ranked(outputs, spec.top_k)
    topk = pa.StructArray.from_arrays(_class(labels, scores, spec), fields=list(pa.struct(CLASS)))
    best = np.frombuffer(starts.buffers()[1], np.int32)[:-1]
    return [*_class(labels[best], scores[best], spec), pa.ListArray.from_arrays(starts, topk)]


def _class(labels: Array, scores: Array, spec: Spec) -> list[pa.Array]:
    """The columns of CLASS."""
    return [numbers(labels), _named(labels, spec.labels), numbers(scores)]


def _classes(outputs: Sequence[Array], spec: Spec) -> pa.ListArray:
    """The k most probable classes of each row as PROBABILITY."""
    rows = [_softmax(output) for output in outputs] if spec.is_score else outputs
    labels, probabilities, starts = _ranked(rows, spec.top_k)
    codes = text(map(str, labels)) if spec.codes is None else _named(labels, spec.codes)
    columns = [codes, _named(labels, spec.labels), numbers(probabilities)]
    classes = pa.StructArray.from_arrays(columns, fields=list(pa.struct(PROBABILITY)))
    return pa.ListArray.from_arrays(starts, classes)


def _ranked(outputs: Sequence[Array], top_k: int) -> tuple[Array, Array, pa.Int32Array]:
    """Labels and scores of the k highest of each row, end to end, and where each row begins."""
    scores = [output.astype(np.float32, copy=False).ravel() for output in outputs]
    ranked = [_highest(row, top_k) for row in scores]
    best = [row[order] for row, order in zip(scores, ranked, strict=True)]
    return _joined(ranked, np.int32), _joined(best), offsets(ranked)


def _highest(scores: Array, k: int) -> Array:
    """Places of the k highest of (N,) scores, equal ones in order; NaN last. Sorts only those."""
    if k == 1 and not np.isnan(scores[place := scores.argmax()]):  # a NaN would be the highest
        return np.array([place])
    low = -scores
    bound = np.partition(low, k - 1)[k - 1] if k < low.size else np.nan
    places = np.arange(low.size) if np.isnan(bound) else np.flatnonzero(low <= bound)
    found: Array = places[np.argsort(low[places], kind="stable")[:k]]
    return found


def _named(labels: Array, names: Sequence[str] | None) -> pa.StringArray:
    if names is None:
        return pa.nulls(len(labels), pa.string())
    return text(names[label] for label in labels)


def _softmax(scores: Array) -> Array:
    power = np.exp(scores.astype(np.float64) - scores.max())
    found: Array = power / power.sum()
    return found


def _tensors(rows: Sequence[Row]) -> pa.ListArray:
    """Every output of each row, as TENSOR."""
    arrays = [array for row in rows for array in row.values()]
    names = text(name for row in rows for name in row)
    shapes = _lists([np.array(array.shape) for array in arrays], np.int32)
    tensors = pa.StructArray.from_arrays([names, shapes, as_bytes(arrays)], fields=list(TENSOR))
    return pa.ListArray.from_arrays(offsets(rows), tensors)


def as_bytes(arrays: Sequence[Array]) -> pa.BinaryArray:
    """Each array as float32, little-endian, in C order."""
    return binary(array.astype("<f4").tobytes() for array in arrays)


def sizes(arrays: Sequence[Array]) -> pa.Int32Array:
    """How many numbers each array holds."""
    return numbers(np.array([array.size for array in arrays], np.int32))


def _lists(arrays: Sequence[Array], dtype: type = np.float32) -> pa.ListArray:
    flat = [array.ravel() for array in arrays]
    return pa.ListArray.from_arrays(offsets(flat), numbers(_joined(flat, dtype)))


def _joined(arrays: Sequence[Array], dtype: type = np.float32) -> Array:
    """One array from several flat ones, also from none."""
    return np.concatenate([np.empty(0, dtype), *arrays], dtype=dtype, casting="unsafe")


def spread(column: pa.Array, answers: Sequence[object]) -> pa.Array:
    """A column of the good rows over all rows; null for a bad one."""
    if len(column) == len(answers):
        return column
    count = itertools.count()
    places = [None if isinstance(answer, RowError) else next(count) for answer in answers]
    return column.take(pa.array(places, pa.int64()))


def errors(answers: Sequence[object]) -> pa.StructArray:
    """`ERROR` of each row, null for a good one."""
    if not any(isinstance(answer, RowError) for answer in answers):
        return pa.nulls(len(answers), ERROR)
    return pa.array([vars(a) if isinstance(a, RowError) else None for a in answers], ERROR)
