"""register: the model in a query, each row computed once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from pyspark.sql import SparkSession

import accel
from accel.errors import DeviceError, InputError
from spark_bridge import predict, register


@pytest.fixture
def images(spark: SparkSession, files: list[bytes]) -> Iterator[str]:
    rows = list(enumerate(files))
    spark.createDataFrame(rows, "id int, content binary").createOrReplaceTempView("images")
    yield "images"
    spark.catalog.dropTempView("images")


def test_register_query_lists_the_most_probable_classes(
    spark: SparkSession, images: str, cnn: accel.Model, pixels: np.ndarray
) -> None:
    scores = accel.device("cpu").compile(cnn).run(pixels).astype(np.float64)
    power = np.exp(scores - scores.max(1, keepdims=True))
    probability = (power / power.sum(1, keepdims=True)).astype(np.float32)
    labels = [(f"n{i:02d}", f"class {i}") for i in range(10)]
    register(spark, "classify", cnn, batch_size=7, top_k=2, labels=labels)
    rows = spark.sql(f"SELECT id, classify(content) AS p FROM {images} ORDER BY id").collect()
    order = np.argsort(-scores, axis=1)[:, :2]
    for row, best, row_probability in zip(rows, order, probability, strict=True):
        assert [c["class"] for c in row.p] == [f"n{i:02d}" for i in best]
        assert [c.description for c in row.p] == [f"class {i}" for i in best]
        assert [c.probability for c in row.p] == row_probability[best].tolist()


def test_register_model_that_ends_in_softmax_gives_its_own_output(
    spark: SparkSession, images: str, fp32: accel.Model, pixels: np.ndarray
) -> None:
    proto = onnx.load_from_string(fp32.to_bytes())
    proto.graph.node.append(helper.make_node("Softmax", ["logits"], ["p"], axis=1))
    proto.graph.output[0].name = "p"
    model = accel.load(proto.SerializeToString()).with_preprocessing().quantize()
    expected = accel.device("cpu").compile(model).run(pixels).max(1)
    register(spark, "classify", model)
    rows = spark.sql(f"SELECT classify(content)[0] AS p FROM {images} ORDER BY id").collect()
    assert [row.p.probability for row in rows] == expected.tolist()
    assert all(row.p["class"].isdecimal() and row.p.description is None for row in rows)


def test_register_path_reads_the_files(
    spark: SparkSession, cnn: accel.Model, files: list[bytes], pixels: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "0.png").write_bytes(files[0])
    (tmp_path / "1.png").write_bytes(b"")
    paths = [str(tmp_path / "0.png"), (tmp_path / "0.png").as_uri(), str(tmp_path / "1.png"),
             str(tmp_path / "2.png"), "nothing://there", None]  # fmt: skip
    df = spark.createDataFrame(list(enumerate(paths)), "id int, path string").coalesce(1)
    register(spark, "classify", cnn, arg="path", task="classify")
    df.createOrReplaceTempView("paths")
    rows = spark.sql("SELECT classify(path) AS p FROM paths ORDER BY id").collect()
    label = int(accel.device("cpu").compile(cnn).run(pixels[:1]).argmax())
    assert [row.p.label for row in rows[:2]] == [label] * 2
    codes = [row.p.error.code for row in rows[2:]]
    assert codes == ["EMPTY", "UNREADABLE", "UNREADABLE", "NULL_INPUT"]
    found = predict(df, cnn, "path", kind="path").orderBy("id").collect()
    assert [row.prediction for row in found] == [row.p for row in rows]


def test_register_filter_on_the_result_computes_a_row_once(
    spark: SparkSession, images: str, cnn: accel.Model
) -> None:
    register(spark, "classify", cnn)
    inner = f"SELECT classify(content)[0] AS p FROM {images}"
    query = f"SELECT * FROM ({inner}) WHERE p.class = '3' ORDER BY p.probability"
    plan = spark.sql(query)._jdf.queryExecution().executedPlan().toString()
    assert plan.count("ArrowEvalPython [") == 1


def test_register_bad_row_is_null_or_carries_its_error(
    spark: SparkSession, cnn: accel.Model
) -> None:
    register(spark, "classify", cnn)
    row = spark.sql("SELECT classify(X'00') AS p, classify(CAST(NULL AS BINARY)) AS q").first()
    assert row is not None and (row.p, row.q) == (None, None)
    register(spark, "classify", cnn, task="classify")
    row = spark.sql("SELECT classify(X'00') AS p, classify(CAST(NULL AS BINARY)) AS q").first()
    assert row is not None
    assert (row.p.error.code, row.q.error.code) == ("DECODE", "NULL_INPUT")


def test_register_wrong_request_is_refused(spark: SparkSession, cnn: accel.Model) -> None:
    with pytest.raises(InputError, match="function name 'a b'"):
        register(spark, "a b", cnn)
    with pytest.raises(DeviceError, match="'gpu' not found"):
        register(spark, "classify", cnn, backend="gpu")
    with pytest.raises(InputError, match="arg is 'column'; expected one of bytes, path, tensor"):
        register(spark, "classify", cnn, arg="column")  # type: ignore[arg-type]
