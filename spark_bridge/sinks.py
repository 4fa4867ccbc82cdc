"""A sink that writes every batch of a stream once, for any reader."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from accel.errors import InputError


def write_batches(
    df: DataFrame, path: str, checkpoint: str, *, available_now: bool = False
) -> StreamingQuery:
    """Write each batch to ``path/batch_id=<n>`` as Parquet.

    A batch that is computed again after a crash replaces what its first try left, so that
    ``spark.read.parquet(path)`` holds every row once.

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
    if not df.isStreaming:
        raise InputError("df is no stream; write it with df.write.parquet(path)")

    def write(batch: DataFrame, batch_id: int) -> None:
        batch.write.mode("overwrite").parquet(f"{path}/batch_id={batch_id}")

    writer = df.writeStream.foreachBatch(write).option("checkpointLocation", checkpoint)
    return (writer.trigger(availableNow=True) if available_now else writer).start()
