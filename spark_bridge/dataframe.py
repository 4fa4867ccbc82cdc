"""Predictions as a column of a DataFrame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    NumericType,
    StringType,
    StructType,
)

from accel.errors import InputError
from accel.images import ImageChain
from spark_bridge import core, worker
from spark_bridge.arrow import MapFunction, map_in_arrow
from spark_bridge.query import Labels, build_spec
from spark_bridge.results import field, result_type
from spark_bridge.ship import ModelLike
from spark_bridge.spec import Spec


def predict(
    df: DataFrame,
    model: ModelLike,
    input: str | Mapping[str, str] = "content",
    output: str = "prediction",
    *,
    kind: str = "image",
    task: str = "classify",
    top_k: int = 1,
    labels: Labels | None = None,
    chain: ImageChain | None = None,
    backend: str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    on_error: str | None = None,
    fallback: Sequence[str] | None = None,
    meta: bool | None = None,
    min_score: float | None = None,
) -> DataFrame:
    """Append a column of predictions; every row stays, in its place.

    Parameters
    ----------
    df : classic, Connect or streaming DataFrame.
    model : accel.Model, or the path or bytes of one.
    input : the column that feeds the model, or a dict of columns by model input.
    output : name of the new column.
    kind : "image": a binary column of image files, for a model of uint8 (N, H, W, C) input (see
        Model.with_preprocessing). "path": a string column of paths or URIs of such files, which
        every executor must reach. "tensor": binary (raw little-endian, C order) or an array of
        numbers, flat or as nested as the model's input.
    task : "classify", "classes", "features", "array", "detect" (with a model of
        `Model.as_detector`) or "raw"; see `spark_bridge.results.result_type`.
    top_k : classes listed by "classify" and "classes".
    labels : name of each class, or (identifier, name) of each.
    chain : resize and crop of each image, and normalisation, which becomes part of a model that
        does not take uint8 images yet; default: shorter side to the model's size, then the
        centre (the whole image where the model's input is not square). A model of free height
        and width needs one that leaves a fixed size.
    backend, batch_size, threads, on_error, fallback : default: the settings
        ``spark.accel.backend``, ``.batchSize``, ``.threads``, ``.onError`` and ``.fallback`` of
        the session, read now.
    meta : add ``output.meta``: on which device, in which try and in what time a row was computed
        (see `spark_bridge.results.result_type`). Default: where another device may take the place
        of the first.
    min_score : score that a box of "detect" must pass; default: the model's.

    Returns
    -------
    DataFrame with the columns of `df` and `output`, a struct. A row that cannot be computed has
    ``output.error`` (code, stage, message) and null in the other fields.

    Raises
    ------
    InputError, ModelError, DeviceError, UnsupportedError
        Before any job starts: a wrong argument, column, setting, model or device.
    """
    check_columns(df.schema, input, output, kind)
    spec = build_spec(
        df.sparkSession, model, input, output=output, kind=kind, task=task, top_k=top_k,
        labels=labels, chain=chain, backend=backend, batch_size=batch_size, threads=threads,
        on_error=on_error, fallback=fallback, meta=meta, min_score=min_score,
    )  # fmt: skip
    result = field(output, result_type(task, spec.meta))
    return map_in_arrow(df, mapper(spec), StructType([*df.schema.fields, result]))


def mapper(spec: Spec) -> MapFunction:
    """The function mapInArrow runs on each partition."""

    def predict_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with worker.task(spec) as guard:
            yield from core.run(batches, spec, guard)

    return predict_partition


def check_columns(
    schema: StructType, input: str | Mapping[str, str], output: str, kind: str
) -> None:
    """The columns read exist and hold what `kind` needs, and the new one is new.

    Raises
    ------
    InputError
    """
    for column in [input] if isinstance(input, str) else input.values():
        if column not in schema.names:
            raise InputError(f"no column {column!r}; columns: {', '.join(schema.names)}")
        _check_type(column, schema[column].dataType, kind)
    if output in schema.names:
        raise InputError(f"output column {output!r} exists already; pass another output=")


def _check_type(column: str, found: DataType, kind: str) -> None:
    inner = found
    while isinstance(inner, ArrayType):
        inner = inner.elementType
    numbers = isinstance(found, ArrayType) and isinstance(inner, NumericType)
    fits = isinstance(found, StringType if kind == "path" else BinaryType)
    if not fits and not (kind == "tensor" and numbers):
        expected = {"path": "string", "image": "binary"}.get(kind, "binary or an array of numbers")
        raise InputError(
            f"column {column!r} is {found.simpleString()}; kind={kind!r} expects {expected}"
        )
