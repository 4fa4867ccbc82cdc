"""What Spark costs: images per second of the same work without it and through each face.

    make bench BENCH=bench/bench_spark.py

One core each: JPEG files of 320x240 pixels, decoded, resized and read by the digits model. The
ratio to `plain` is what to look at; `images_per_s` is in extra_info. A job costs Spark about a
tenth of a second however small it is, so that COUNT is large enough for the rate to show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from pyspark.sql import SparkSession
from pytest_benchmark.fixture import BenchmarkFixture

import accel
from accel.demo import digits_model, digits_test
from accel.images import ImageChain, decode
from spark_bridge import local_session, map_partitions, predict, register
from spark_bridge.rows import grey

COUNT = 2048
CHAIN = ImageChain(resize=32, crop=32)
Labels = list[int]


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    session = local_session("local[1]", app="bench")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def model() -> accel.Model:
    return digits_model().quantize()


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """JPEG files, enlarged digits."""
    images = [cv2.resize(image, (320, 240)) for image in digits_test()[0]]
    encoded = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
    return [encoded[i % len(encoded)] for i in range(COUNT)]


def plain(spark: SparkSession, model: accel.Model, files: list[bytes]) -> Callable[[], Labels]:
    """The work without Spark."""
    program = accel.device("cpu").compile(model, batch_size=32)

    def run() -> Labels:
        images = np.stack([grey(CHAIN(decode(file))) for file in files])
        return [int(label) for label in np.asarray(program.run(images)).argmax(1)]

    return run


def dataframe(spark: SparkSession, model: accel.Model, files: list[bytes]) -> Callable[[], Labels]:
    """`predict`."""
    df = spark.createDataFrame(list(enumerate(files)), "id int, content binary").cache()
    query = predict(df, model, chain=CHAIN).select("prediction.label")
    return lambda: [row.label for row in query.collect()]


def sql(spark: SparkSession, model: accel.Model, files: list[bytes]) -> Callable[[], Labels]:
    """`register`."""
    df = spark.createDataFrame(list(enumerate(files)), "id int, content binary").cache()
    df.createOrReplaceTempView("files")
    register(spark, "classify", model, chain=CHAIN)
    query = spark.sql("SELECT classify(content).label AS label FROM files")
    return lambda: [row.label for row in query.collect()]


def rdd(spark: SparkSession, model: accel.Model, files: list[bytes]) -> Callable[[], Labels]:
    """`map_partitions` on an RDD of bytes."""
    items = spark.sparkContext.parallelize(files, 1).cache()
    mapped = items.mapPartitions(map_partitions(model, chain=CHAIN))
    return lambda: [prediction.label for prediction in mapped.collect()]


@pytest.mark.parametrize("face", [plain, dataframe, sql, rdd], ids=lambda face: face.__name__)
def bench_face(
    benchmark: BenchmarkFixture,
    spark: SparkSession,
    model: accel.Model,
    files: list[bytes],
    face: Callable[[SparkSession, accel.Model, list[bytes]], Callable[[], Labels]],
) -> None:
    """Images per second through one face."""
    run = face(spark, model, files)
    assert run() == plain(spark, model, files)()
    benchmark.group = "spark faces"
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)  # type: ignore[no-untyped-call]
    if benchmark.stats is not None:  # None where pytest-benchmark is disabled
        benchmark.extra_info["images_per_s"] = COUNT / benchmark.stats.stats.median
