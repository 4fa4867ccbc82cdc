"""register: the model in a query, each row computed once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pyspark.sql import SparkSession

import accel
from accel.errors import DeviceError, InputError
from spark_bridge import register


@pytest.fixture
def images(spark: SparkSession, files: list[bytes]) -> Iterator[str]:
    rows = list(enumerate(files))
    spark.createDataFrame(rows, "id int, content binary").createOrReplaceTempView("images")
    yield "images"
    spark.catalog.dropTempView("images")


def test_register_query_equals_the_program(
    spark: SparkSession, images: str, cnn: accel.Model, pixels: np.ndarray
) -> None:
    scores = accel.device("cpu").compile(cnn).run(pixels)
    register(spark, "classify", cnn, batch_size=7, top_k=2)
    rows = spark.sql(f"SELECT id, classify(content) AS p FROM {images} ORDER BY id").collect()
    assert [row.p.label for row in rows] == scores.argmax(1).tolist()
    assert [row.p.score for row in rows] == scores.max(1).tolist()
    assert {len(row.p.topk) for row in rows} == {2}


def test_register_filter_on_the_result_computes_a_row_once(
    spark: SparkSession, images: str, cnn: accel.Model
) -> None:
    register(spark, "classify", cnn)
    query = f"SELECT * FROM (SELECT classify(content) AS p FROM {images}) WHERE p.label = 3"
    plan = spark.sql(query)._jdf.queryExecution().executedPlan().toString()
    assert plan.count("ArrowEvalPython") == 1


def test_register_bad_row_carries_its_error(spark: SparkSession, cnn: accel.Model) -> None:
    register(spark, "classify", cnn)
    row = spark.sql("SELECT classify(X'00') AS p, classify(CAST(NULL AS BINARY)) AS q").first()
    assert row is not None
    assert (row.p.error.code, row.q.error.code) == ("DECODE", "NULL_INPUT")


def test_register_wrong_request_is_refused(spark: SparkSession, cnn: accel.Model) -> None:
    with pytest.raises(InputError, match="function name 'a b'"):
        register(spark, "a b", cnn)
    with pytest.raises(DeviceError, match="'gpu' not found"):
        register(spark, "classify", cnn, backend="gpu")
