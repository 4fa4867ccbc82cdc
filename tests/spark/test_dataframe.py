"""predict: the same bits as without Spark on every device, and no job for a wrong request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.pandas.types import from_arrow_type

import accel
from accel.demo_pages import ink_detector
from accel.errors import AccelError, DeviceError, InputError, ModelError
from accel.images import ImageChain
from spark_bridge import predict
from spark_bridge.results import result_type
from spark_bridge.spec import TASKS

Encode = Callable[[np.ndarray], bytes]
BACKENDS = ("cpu", "mkl", "openvino", "onnxruntime", "fpga")


@pytest.fixture
def df(spark: SparkSession, files: list[bytes]) -> DataFrame:
    rows = list(enumerate(files))
    return spark.createDataFrame(rows, "id int, content binary").repartition(3)


def by_id(df: DataFrame) -> list[Row]:
    return [row.prediction for row in sorted(df.collect(), key=lambda row: row.id)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_predict_equals_the_program_bit_for_bit(
    df: DataFrame, cnn: accel.Model, pixels: np.ndarray, backend: str
) -> None:
    expected = accel.device(backend).compile(cnn, batch_size=32).run(pixels)
    raw = by_id(predict(df, cnn, task="raw", backend=backend))
    assert [bytes(r.tensors[0].data) for r in raw] == [row.tobytes() for row in expected]
    assert {(r.tensors[0].name, tuple(r.tensors[0].shape)) for r in raw} == {("logits", (10,))}


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_predict_batch_size_changes_no_bit(
    df: DataFrame, cnn: accel.Model, pixels: np.ndarray, batch_size: int
) -> None:
    expected = accel.device("cpu").compile(cnn).run(pixels)
    found = by_id(predict(df, cnn, top_k=10, batch_size=batch_size))
    for answer, scores in zip(found, expected, strict=True):
        assert answer.label == scores.argmax() and answer.error is None
        assert {t.label: t.score for t in answer.topk} == dict(enumerate(scores.tolist()))


def test_predict_bad_rows_keep_their_place_and_say_why(
    spark: SparkSession, cnn: accel.Model, files: list[bytes]
) -> None:
    rows = [(0, files[0]), (1, None), (2, b""), (3, b"junk"), (4, files[1][:60]), (5, files[1])]
    df = spark.createDataFrame(rows, "id int, content binary").repartition(2)
    predicted = sorted(predict(df, cnn).collect(), key=lambda row: row.id)
    assert [row.content for row in predicted] == [content for _, content in rows]
    codes = [row.prediction.error and row.prediction.error.code for row in predicted]
    assert codes == [None, "NULL_INPUT", "EMPTY", "DECODE", "DECODE", None]
    for row in predicted[1:5]:
        assert (row.prediction.label, row.prediction.score, row.prediction.topk) == (None,) * 3


def test_predict_features_are_the_flat_output(
    df: DataFrame, cnn: accel.Model, pixels: np.ndarray
) -> None:
    expected = accel.device("cpu").compile(cnn).run(pixels)
    found = by_id(predict(df, cnn, task="features"))
    assert [bytes(r.features) for r in found] == [row.tobytes() for row in expected]
    assert {r.dim for r in found} == {10}


def test_predict_chain_fits_images_of_any_size(
    spark: SparkSession, cnn: accel.Model, encode: Encode, rng: np.random.Generator
) -> None:
    images = [rng.integers(0, 256, size, np.uint8) for size in ((40, 60, 3), (19, 17, 3))]
    rows = [(i, encode(image)) for i, image in enumerate(images)]
    df = spark.createDataFrame(rows, "id int, content binary")
    chain = ImageChain(resize=18, crop=16)
    program = accel.device("cpu").compile(cnn)
    for given, used in ((chain, chain), (None, ImageChain(resize=16, crop=16))):
        expected = program.run(np.stack([used(image) for image in images]))
        found = by_id(predict(df, cnn, chain=given, task="features"))
        assert [bytes(r.features) for r in found] == [row.tobytes() for row in expected]


@pytest.mark.parametrize("backend", ["cpu", "onnxruntime"])
def test_predict_model_of_free_size_takes_the_size_of_the_chain(
    df: DataFrame, cnn: accel.Model, free_size: accel.Model, backend: str
) -> None:
    chain = ImageChain(resize=16, crop=16)
    fixed = by_id(predict(df, cnn, task="features", chain=chain, backend=backend))
    assert by_id(predict(df, free_size, task="features", chain=chain, backend=backend)) == fixed
    with pytest.raises(ModelError, match="free dimensions"):
        predict(df, free_size, backend=backend)


@pytest.mark.parametrize("form", ["binary", "array<float>", "array<array<array<double>>>"])
def test_predict_tensor_takes_bytes_and_arrays(
    spark: SparkSession, fp32: accel.Model, rng: np.random.Generator, form: str
) -> None:
    x = rng.normal(size=(5, 3, 16, 16)).astype(np.float32)
    values = {
        "binary": [row.tobytes() for row in x],
        "array<float>": [row.ravel().tolist() for row in x],
        "array<array<array<double>>>": x.tolist(),
    }
    df = spark.createDataFrame(list(enumerate(values[form])), f"id int, x {form}")
    expected = accel.device("onnxruntime").compile(fp32, batch_size=32).run(x)
    found = by_id(predict(df, fp32, "x", kind="tensor", task="features", backend="onnxruntime"))
    assert [bytes(r.features) for r in found] == [row.tobytes() for row in expected]


def test_predict_model_of_two_inputs_takes_two_columns(spark: SparkSession) -> None:
    two = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2]) for n in "ab"]
    out = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2]) for n in ("sum", "diff")]
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["diff"]),
    ]
    graph = helper.make_graph(nodes, "two", two, out)
    opset = [helper.make_opsetid("", 17)]
    model = accel.load(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )
    df = spark.createDataFrame(
        [(0, [1.0, 2.0], [3.0, 5.0])], "id int, l array<float>, r array<float>"
    )
    feeds = {"a": "r", "b": "l"}
    query = {"kind": "tensor", "task": "raw", "backend": "onnxruntime"}
    answer = by_id(predict(df, model, feeds, **query))[0]
    values = {t.name: np.frombuffer(t.data, "<f4").tolist() for t in answer.tensors}
    assert values == {"sum": [4.0, 7.0], "diff": [2.0, 3.0]}
    with pytest.raises(InputError, match="give a column for each"):
        predict(df, model, "l", **query)
    with pytest.raises(InputError, match=r"the model has \['a', 'b'\]"):
        predict(df, model, {"a": "l", "c": "r"}, **query)


def test_predict_backend_follows_the_session(df: DataFrame, cnn: accel.Model) -> None:
    spark = df.sparkSession
    spark.sql("SET spark.accel.backend=nowhere")
    try:
        with pytest.raises(DeviceError, match="'nowhere' not found; available: cpu"):
            predict(df, cnn)
        assert predict(df, cnn, backend="cpu").count() == 40
    finally:
        spark.conf.unset("spark.accel.backend")


def test_predict_auto_takes_one_device_for_all_workers(df: DataFrame, cnn: accel.Model) -> None:
    assert predict(df, cnn, backend="auto").where("prediction.error is null").count() == 40


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backend": "gpu"}, DeviceError, "'gpu' not found; available: cpu"),
        ({"input": "image"}, InputError, "no column 'image'; columns: id, content"),
        ({"input": "id"}, InputError, "column 'id' is int; kind='image' expects binary"),
        ({"output": "content"}, InputError, "'content' exists already"),
        (
            {"task": "boxes"},
            InputError,
            "expected one of classify, classes, features, array, detect, raw",
        ),
        ({"kind": "text"}, InputError, "expected one of image, path, tensor"),
        ({"top_k": 0}, InputError, "top_k is 0"),
        ({"top_k": 11}, InputError, "has 10 classes"),
        ({"labels": ["one"]}, InputError, "1 labels, but .* has 10 classes"),
        ({"batch_size": 0}, InputError, "argument batch_size"),
        ({"on_error": "drop"}, InputError, "expected one of keep, fail"),
    ],
)
def test_predict_wrong_request_fails_before_the_job(
    df: DataFrame, cnn: accel.Model, arguments: dict[str, Any],
    error: type[AccelError], message: str,
) -> None:  # fmt: skip
    tracker = df.sparkSession.sparkContext.statusTracker()
    before = tracker.getJobIdsForGroup()
    with pytest.raises(error, match=message):
        predict(df, cnn, **arguments)
    assert tracker.getJobIdsForGroup() == before


def test_predict_wrong_model_says_what_to_do(df: DataFrame, fp32: accel.Model) -> None:
    with pytest.raises(InputError, match="with_preprocessing"):
        predict(df, fp32, backend="onnxruntime")
    with pytest.raises(ModelError, match="quantize"):
        predict(df, fp32.with_preprocessing())
    with pytest.raises(ModelError, match="not-there"):
        predict(df, "not-there.onnx")
    with pytest.raises(InputError, match=r"expected an accel.Model, a path or bytes, got int"):
        predict(df, 3)  # type: ignore[arg-type]


def test_predict_on_error_fail_fails_the_job_with_the_reason(
    spark: SparkSession, cnn: accel.Model
) -> None:
    df = spark.createDataFrame([(b"junk",)], "content binary")
    with pytest.raises(Exception, match=r"DECODE at decode: .*on_error"):
        predict(df, cnn, on_error="fail").collect()


def test_predict_odd_column_names_are_taken_literally(
    spark: SparkSession, cnn: accel.Model, files: list[bytes]
) -> None:
    df = spark.createDataFrame([(0, files[0], 1)], "id int, content binary, `a.b``c` int")
    row = predict(df, cnn).collect()[0]
    assert row["a.b`c"] == 1 and row.prediction.error is None


@pytest.mark.parametrize("task", TASKS)
def test_field_is_the_schema_of_the_result(df: DataFrame, cnn: accel.Model, task: str) -> None:
    model = ink_detector().quantize() if task == "detect" else cnn
    found = predict(df, model, task=task).schema["prediction"]
    expected = from_arrow_type(result_type(task)).simpleString()
    assert found.dataType.simpleString() == expected
