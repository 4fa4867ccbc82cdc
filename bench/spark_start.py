"""The first job of a new session, in a process of its own.

python bench/spark_start.py MODEL IMAGE      # "-" for the model: an identity function
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession
from spark_work import CHAIN

import accel.model  # as the driver of either job has imported what it uses
from spark_bridge import local_session, predict
from spark_bridge.arrow import map_in_arrow


def cold_start_s(model: Path | None, image: str) -> float:
    """Seconds from a ready session to the first result."""
    command = [sys.executable, __file__, str(model or "-"), image]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def first_job_s(spark: SparkSession, model: str, image: bytes) -> float:
    """Seconds from the call that makes the query to its result."""
    df = spark.createDataFrame([(image,)], "content binary").repartition(1)
    started = time.perf_counter()
    if model == "-":
        query = map_in_arrow(df, _identity, df.schema).selectExpr("length(content)")
    else:
        loaded = accel.load(model)
        query = predict(df, loaded, chain=CHAIN).select("prediction.label")
    assert query.collect()[0][0] is not None
    return time.perf_counter() - started


def _identity(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return batches


if __name__ == "__main__":
    session = local_session("local[2]", app="cold start")
    print(first_job_s(session, sys.argv[1], Path(sys.argv[2]).read_bytes()))
    session.stop()
