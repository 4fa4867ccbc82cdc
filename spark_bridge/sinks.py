"""Sinks that hold every row of a stream once, also after a crash."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from accel.errors import InputError

FORMATS = ("parquet", "json", "orc", "csv", "text")


def write_once(
    df: DataFrame, path: str, checkpoint: str, *, format: str = "parquet",
    available_now: bool = False,
) -> StreamingQuery:  # fmt: skip
    """Write the stream into one folder of files, by Spark's own file sink.

    The folder's log names the files of each batch, so that Spark reads every row once. Other
    readers also see what a try that failed has left: for them take `write_batches`.

    Parameters
    ----------
    df, checkpoint, available_now : as for `write_batches`.
    format : "parquet", "json", "orc", "csv" or "text".

    Raises
    ------
    InputError
        `df` is no stream, or the format is another.
    """
    if format not in FORMATS:
        raise InputError(f"format is {format!r}; expected one of {', '.join(FORMATS)}")
    writer = _writer(df, checkpoint, available_now)
    return writer.format(format).option("path", path).outputMode("append").start()


def write_batches(
    df: DataFrame, path: str, checkpoint: str, *, available_now: bool = False
) -> StreamingQuery:
    """Write each batch to ``path/batch_id=<n>`` as Parquet.

    A batch that is computed again after a crash replaces what its first try left, so that any
    reader of ``path`` finds every row once.

    Parameters
    ----------
    df : a streaming DataFrame.
    checkpoint : folder of this query alone; a new one begins again at batch 0 and needs a new
        `path`.
    available_now : end after what is there now; default: go on until the query is stopped.

    Raises
    ------
    InputError
        `df` is no stream.
    """

    def write(batch: DataFrame, batch_id: int) -> None:
        batch.write.mode("overwrite").parquet(f"{path}/batch_id={batch_id}")

    return _writer(df, checkpoint, available_now).foreachBatch(write).start()


def _writer(df: DataFrame, checkpoint: str, available_now: bool) -> DataStreamWriter:
    if not df.isStreaming:
        raise InputError("df is no stream; write it with df.write.parquet(path)")
    writer = df.writeStream.option("checkpointLocation", checkpoint)
    return writer.trigger(availableNow=True) if available_now else writer
