"""A model as a function of Spark SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.functions import arrow_udf  # type: ignore[attr-defined]

from accel.errors import InputError
from accel.images import ImageChain
from spark_bridge import core, worker
from spark_bridge.query import build_spec
from spark_bridge.results import ddl, result_type
from spark_bridge.ship import ModelLike


def register(
    spark: SparkSession,
    name: str,
    model: ModelLike,
    *,
    kind: str = "image",
    task: str = "classify",
    top_k: int = 1,
    labels: Sequence[str] | None = None,
    chain: ImageChain | None = None,
    backend: str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    on_error: str | None = None,
) -> None:
    """Make ``SELECT name(content) FROM images`` work in this session.

    The function takes one column, as `spark_bridge.predict` does, and returns its struct. Spark
    is told that it is not deterministic: it would otherwise compute a row twice where a query
    filters on the result.

    Parameters
    ----------
    name : of the function: letters, digits and ``_``.
    others : as for `spark_bridge.predict`; the session's settings are read now.

    Raises
    ------
    InputError, ModelError, DeviceError, UnsupportedError
    """
    if not name.isidentifier():
        raise InputError(f"function name {name!r}; expected letters, digits and _")
    spec = build_spec(
        spark, model, "content", kind=kind, task=task, top_k=top_k, labels=labels, chain=chain,
        backend=backend, batch_size=batch_size, threads=threads, on_error=on_error,
    )  # fmt: skip

    def predict_values(arrays: Iterator[pa.Array]) -> Iterator[pa.Array]:
        batches = (pa.record_batch({"content": array}) for array in arrays)
        with worker.task(spec) as guard:
            for batch in core.run(batches, spec, guard):
                yield batch.column(spec.output)

    udf = arrow_udf(predict_values, ddl(result_type(task, spec.meta)))
    spark.udf.register(name, udf.asNondeterministic())
