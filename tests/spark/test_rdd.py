"""map_partitions: every form of item, in order, equal to the program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyspark.sql import Row, SparkSession

import accel
from accel.errors import DeviceError
from spark_bridge import map_partitions, predict, rdd


@pytest.fixture
def scores(cnn: accel.Model, pixels: np.ndarray) -> np.ndarray:
    return accel.device("cpu").compile(cnn).run(pixels)


def run(spark: SparkSession, items: list[Any], function: Any) -> list[Any]:
    return spark.sparkContext.parallelize(items, 3).mapPartitions(function).collect()


def assert_equal(predictions: list[Row], scores: np.ndarray) -> None:
    assert [p.label for p in predictions] == scores.argmax(1).tolist()
    assert [p.score for p in predictions] == scores.max(1).tolist()


def test_map_partitions_bytes_give_predictions_in_order(
    spark: SparkSession, cnn: accel.Model, files: list[bytes], scores: np.ndarray
) -> None:
    assert_equal(run(spark, files, map_partitions(cnn, "cpu", batch_size=7)), scores)


def test_map_partitions_arrays_need_no_decoding(
    spark: SparkSession, cnn: accel.Model, pixels: np.ndarray, scores: np.ndarray
) -> None:
    assert_equal(run(spark, list(pixels), map_partitions(cnn)), scores)


def test_map_partitions_pairs_keep_their_key(
    spark: SparkSession, cnn: accel.Model, files: list[bytes], scores: np.ndarray
) -> None:
    found = run(spark, [(f"k{i}", f) for i, f in enumerate(files)], map_partitions(cnn))
    assert [key for key, _ in found] == [f"k{i}" for i in range(len(files))]
    assert_equal([prediction for _, prediction in found], scores)


def test_map_partitions_rows_keep_their_fields_or_their_key(
    spark: SparkSession, cnn: accel.Model, files: list[bytes], scores: np.ndarray
) -> None:
    rows = [Row(name=f"n{i}", photo=f) for i, f in enumerate(files)]
    found = run(spark, rows, map_partitions(cnn, input="photo", output="answer"))
    assert [(r.name, r.photo) for r in found] == [(r.name, r.photo) for r in rows]
    assert_equal([r.answer for r in found], scores)
    keyed = run(spark, rows, map_partitions(cnn, input="photo", key="name"))
    assert [key for key, _ in keyed] == [r.name for r in rows]
    assert_equal([prediction for _, prediction in keyed], scores)


def test_map_partitions_rows_become_the_dataframe_of_predict(
    spark: SparkSession, cnn: accel.Model, files: list[bytes]
) -> None:
    df = spark.createDataFrame([(f,) for f in files], "content binary")
    wanted = predict(df, cnn, top_k=3)
    found = spark.createDataFrame(df.rdd.mapPartitions(map_partitions(cnn, top_k=3)), wanted.schema)
    assert found.collect() == wanted.collect()


def test_map_partitions_bad_items_carry_their_error(
    spark: SparkSession, cnn: accel.Model, files: list[bytes]
) -> None:
    found = run(spark, [files[0], None, b"", files[1]], map_partitions(cnn))
    assert [p.error and p.error.code for p in found] == [None, "NULL_INPUT", "EMPTY", None]


def test_map_partitions_float_model_takes_tensors(
    spark: SparkSession, fp32: accel.Model, rng: np.random.Generator
) -> None:
    x = rng.normal(size=(9, 3, 16, 16)).astype(np.float32)
    found = run(spark, list(x), map_partitions(fp32, "onnxruntime", task="raw"))
    expected = accel.device("onnxruntime").compile(fp32, batch_size=32).run(x)
    assert [p.tensors[0].data for p in found] == [row.tobytes() for row in expected]


def test_map_partitions_unknown_device_fails_before_the_job(
    spark: SparkSession, cnn: accel.Model
) -> None:
    with pytest.raises(DeviceError, match="available: cpu"):
        map_partitions(cnn, "gpu")


@pytest.mark.parametrize(
    ("item", "message"), [(Row(other=b""), "no field 'content'"), ((1, 2, 3), "tuple of 3 items")]
)
def test_map_partitions_item_of_another_form_says_so(
    spark: SparkSession, cnn: accel.Model, item: Any, message: str
) -> None:
    with pytest.raises(Exception, match=message):
        run(spark, [item], map_partitions(cnn))


def test_chunks_stay_within_rows_and_bytes() -> None:
    contents = [b"12", b"34", b"5678901", b"1", None, [1.0], np.zeros(2, np.uint16), b"123"]
    chunks = list(rdd._chunks([(i, c) for i, c in enumerate(contents)], 3, 5))
    assert [[i for i, _ in chunk] for chunk in chunks] == [[0, 1], [2], [3, 4, 5], [6], [7]]
    assert list(rdd._chunks([], 3, 5)) == []
