"""measure and progress: a job counts its rows as it runs, and says how far it is."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator

import pytest
from pyspark.sql import DataFrame, SparkSession

import accel
from accel.errors import InputError
from spark_bridge import measure, predict, progress


@pytest.fixture
def df(spark: SparkSession, files: list[bytes]) -> DataFrame:
    rows = [*files, None, b"", b"junk", b"junk"]
    return spark.createDataFrame([(row,) for row in rows], "content binary").repartition(3)


def test_measure_counts_every_row_once_by_error_and_device(df: DataFrame, cnn: accel.Model) -> None:
    measured, found = measure(predict(df, cnn, batch_size=7, meta=True))
    assert len(measured.collect()) == found.rows == 44
    assert found.errors == {"NULL_INPUT": 1, "EMPTY": 1, "DECODE": 2}
    assert found.devices == {"cpu": 40}
    assert set(found.seconds) == {"queue", "decode", "infer"}
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert str(found).splitlines()[:3] == [
        "  rows       44", "  errors     4 (2 DECODE, 1 EMPTY, 1 NULL_INPUT)", "  devices    40 cpu"
    ]  # fmt: skip
    assert re.search(r"time       queue \d.* s, decode .* s, infer .* s, of all", str(found))


def test_measure_without_meta_counts_rows_and_errors(df: DataFrame, cnn: accel.Model) -> None:
    measured, found = measure(predict(df, cnn, output="a.b"), "a.b")
    measured.write.format("noop").mode("append").save()
    assert (found.rows, sum(found.errors.values())) == (44, 4)
    assert found.devices == {} and found.seconds == {}


def test_predict_meta_shares_the_times_of_a_batch(df: DataFrame, cnn: accel.Model) -> None:
    rows = predict(df.coalesce(1), cnn, batch_size=8, meta=True).collect()
    batches = [row.prediction.meta.batch for row in rows]
    assert batches == [8] * 40 + [4] * 4
    assert len({row.prediction.meta.infer_us for row in rows[:8]}) == 1


def test_measure_other_columns_are_refused(df: DataFrame) -> None:
    with pytest.raises(InputError, match="'prediction' is no column of predictions"):
        measure(df)
    with pytest.raises(InputError, match="'content' is no column of predictions"):
        measure(df, "content")


def test_progress_says_how_many_tasks_are_done(spark: SparkSession) -> None:
    def slow(numbers: Iterator[int]) -> Iterator[int]:
        time.sleep(0.3)
        yield from numbers

    said = io.StringIO()
    with progress(spark, "job", every_s=0.1, stream=said):
        spark.sparkContext.parallelize(range(8), 8).mapPartitions(slow).collect()
    lines = said.getvalue().splitlines()
    assert lines and all(re.fullmatch(r"job: \d of 8 tasks, \d+ s", line) for line in lines)
    counts = [int(line.split()[1]) for line in lines]
    assert counts == sorted(counts) and counts[-1] > 0
