"""A model as a function of Spark SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.functions import arrow_udf  # type: ignore[attr-defined]
from pyspark.sql.pandas.types import from_arrow_type

from accel.errors import InputError
from accel.images import ImageChain
from spark_bridge import core, worker
from spark_bridge.query import Labels, build_spec
from spark_bridge.results import result_type
from spark_bridge.ship import ModelLike

ARGUMENTS = {"bytes": "image", "path": "path", "tensor": "tensor"}  # kind of each


def register(
    spark: SparkSession,
    name: str,
    model: ModelLike,
    *,
    arg: Literal["bytes", "path", "tensor"] = "bytes",
    task: str = "classes",
    top_k: int = 1,
    labels: Labels | None = None,
    chain: ImageChain | None = None,
    backend: str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    on_error: str | None = None,
    fallback: Sequence[str] | None = None,
) -> None:
    """Make ``SELECT name(content) FROM images`` work in this session.

    The function takes one column and returns, for the task "classes", array<struct<class string,
    description string, probability float>> with `top_k` items, null where a row cannot be
    computed; for another task the struct of `spark_bridge.predict`, whose field `error` says why.
    Spark is told that it is not deterministic: it would otherwise compute a row twice where a
    query filters on the result.

    Parameters
    ----------
    name : of the function: letters, digits and ``_``.
    arg : what the column holds: the bytes of image files, paths or URIs of such files, or numbers
        as they are.
    others : as for `spark_bridge.predict`; the session's settings are read now.

    Raises
    ------
    InputError, ModelError, DeviceError, UnsupportedError
    """
    if not name.isidentifier():
        raise InputError(f"function name {name!r}; expected letters, digits and _")
    if arg not in ARGUMENTS:
        raise InputError(f"arg is {arg!r}; expected one of {', '.join(ARGUMENTS)}")
    spec = build_spec(
        spark, model, "value", kind=ARGUMENTS[arg], task=task, top_k=top_k, labels=labels,
        chain=chain, backend=backend, batch_size=batch_size, threads=threads, on_error=on_error,
        fallback=fallback,
    )  # fmt: skip
    kind = result_type(task, spec.meta)
    classes_only = task == "classes"

    def predict_values(arrays: Iterator[pa.Array]) -> Iterator[pa.Array]:
        batches = (pa.record_batch({"value": array}) for array in arrays)
        with worker.task(spec) as guard:
            for batch in core.run(batches, spec, guard):
                found = batch.column(spec.output)
                yield found.field("classes") if classes_only else found

    returned = kind.field("classes").type if classes_only else kind
    udf = arrow_udf(predict_values, from_arrow_type(returned))
    spark.udf.register(name, udf.asNondeterministic())
