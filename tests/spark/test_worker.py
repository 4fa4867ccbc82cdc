"""Worker: programs are made once and kept, and no task takes more cores than it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark import SparkFiles
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

import accel
from accel.errors import ModelError
from spark_bridge import predict, worker
from spark_bridge.arrow import map_in_arrow
from spark_bridge.ship import ship

CPU = ("cpu", None, None)


def test_cache_keeps_the_most_recently_used() -> None:
    cache, made = worker.ProgramCache(), []

    def ask(name: str) -> object:
        return cache.get((name, CPU, (), 1, 1), lambda: made.append(name) or object(), slots=2)  # type: ignore[arg-type,return-value]

    first = ask("a")
    ask("b")
    assert ask("a") is first
    ask("c")
    assert ask("a") is first and made == ["a", "b", "c"]
    ask("b")
    assert made == ["a", "b", "c", "b"] and cache.loads == 4 and len(cache) == 2


def test_cache_failed_compile_is_not_kept() -> None:
    cache = worker.ProgramCache()

    def refuse() -> accel.Program:
        raise ModelError("no")

    with pytest.raises(ModelError):
        cache.get(("a", CPU, (), 1, 1), refuse, slots=2)
    assert len(cache) == 0 and cache.loads == 0


def test_task_threads_never_exceed_the_cores_of_the_task(spark: SparkSession) -> None:
    def threads(_: Iterator[int]) -> Iterator[list[int]]:
        yield [worker.task_threads(wanted) for wanted in (None, 1, 16)]

    assert spark.sparkContext.parallelize([0], 1).mapPartitions(threads).collect() == [[1, 1, 1]]
    assert worker.task_threads(16) == 1  # outside a task


def test_program_is_loaded_once_for_all_queries_of_a_worker(
    spark: SparkSession, cnn: accel.Model, files: list[bytes]
) -> None:
    def loads(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(batches)
        yield pa.record_batch({"pid": [os.getpid()], "loads": [worker.programs.loads]})

    def loads_by_worker() -> dict[int, int]:
        schema = StructType.fromDDL("pid long, loads long")
        return {r.pid: r.loads for r in map_in_arrow(spark.range(8), loads, schema).collect()}

    df = spark.createDataFrame([(f,) for f in files], "content binary").repartition(4)
    for _ in range(3):  # by then every worker has the program
        predict(df, cnn, batch_size=5).collect()
    before = loads_by_worker()
    for _ in range(3):
        predict(df, accel.Model(cnn.to_bytes(), "again"), batch_size=5).collect()
    after = loads_by_worker()
    assert max(before.values()) >= 1
    assert {pid: after[pid] for pid in before if pid in after} == before


def test_ship_equal_models_are_one_file(spark: SparkSession, cnn: accel.Model) -> None:
    first, second = ship(spark, cnn), ship(spark, accel.Model(cnn.to_bytes(), "other"))
    assert first == second and first.size == len(cnn.to_bytes())
    assert first.load().to_bytes() == cnn.to_bytes() and first.load().name == cnn.name


def test_ship_damaged_file_is_refused(spark: SparkSession, fp32: accel.Model) -> None:
    ref = ship(spark, fp32.quantize(window=16))
    path = Path(SparkFiles.get(ref.filename))
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1])
        with pytest.raises(ModelError, match="damaged"):
            ref.load()
        path.unlink()
        with pytest.raises(ModelError, match="not on this executor"):
            ref.load()
    finally:
        path.write_bytes(whole)
