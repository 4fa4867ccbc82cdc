"""Detection and what follows it: the boxes of accel.Detector, and features of what they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, Row, SparkSession

import accel
from accel.demo import digits_model
from accel.demo_pages import ink_detector, pages
from accel.errors import InputError
from accel.images import ImageChain
from spark_bridge import detect_crop_features, predict
from spark_bridge.crops import _span
from spark_bridge.transformer import AccelDetector

COUNT = 20
Boxes = list[tuple[float, ...]]


@pytest.fixture(scope="module")
def detector() -> accel.Model:
    return ink_detector().quantize()


@pytest.fixture(scope="module")
def digits() -> accel.Model:
    return digits_model().quantize()


@pytest.fixture
def images() -> list[np.ndarray]:
    """Pages, one of another size, and an empty one at the end."""
    found = list(pages(COUNT)[0])
    found[3] = ImageChain(resize=(200, 150))(found[3])
    return [*found, np.zeros((64, 64, 3), np.uint8)]


@pytest.fixture
def df(
    spark: SparkSession, images: list[np.ndarray], encode: Callable[[np.ndarray], bytes]
) -> DataFrame:
    rows = [encode(image) for image in images] + [None, b"", b"junk"]
    numbered = list(enumerate(rows))
    return spark.createDataFrame(numbered, "id int, content binary").repartition(3)


def by_id(df: DataFrame) -> list[Row]:
    return [row.prediction for row in sorted(df.collect(), key=lambda row: row.id)]


def as_tuples(boxes: list[Row]) -> Boxes:
    return [(b.x1, b.y1, b.x2, b.y2, b.score, b.label, b.name) for b in boxes]


@pytest.mark.parametrize("backend", ["cpu", "onnxruntime", "fpga"])
def test_predict_detect_gives_the_boxes_of_the_detector(
    df: DataFrame, images: list[np.ndarray], detector: accel.Model, backend: str
) -> None:
    program = accel.device(backend).compile(detector, batch_size=7)
    expected = accel.Detector(program).detect(images)
    rows = by_id(predict(df, detector, task="detect", backend=backend, batch_size=7))
    for row, found in zip(rows, expected, strict=False):
        wanted = zip(*found.boxes.T.tolist(), found.scores.tolist(), found.classes.tolist(),
                     found.names, strict=True)  # fmt: skip
        assert as_tuples(row.boxes) == list(wanted)
    assert [len(row.boxes) for row in rows[: COUNT + 1]] == [1] * COUNT + [0]
    assert [row.error.code for row in rows[COUNT + 1 :]] == ["NULL_INPUT", "EMPTY", "DECODE"]


def test_detector_stage_equals_predict_and_takes_a_least_score(
    df: DataFrame, detector: accel.Model, tmp_path: Path
) -> None:
    stage = AccelDetector(detector, minScore=0.9)
    strict = by_id(predict(df, detector, task="detect", min_score=0.9))
    assert by_id(stage.transform(df)) == strict
    assert 0 < sum(len(row.boxes or []) for row in strict) < COUNT
    PipelineModel([stage]).save(str(tmp_path / "stage"))
    again = PipelineModel.load(str(tmp_path / "stage"))
    assert by_id(again.transform(df)) == strict


@pytest.mark.parametrize(("pick", "no_box"), [("best", "whole"), ("all", "null"), (2, "null")])
def test_detect_crop_features_are_those_of_the_cut_pixels(
    df: DataFrame, images: list[np.ndarray], detector: accel.Model, digits: accel.Model,
    pick: object, no_box: str,
) -> None:  # fmt: skip
    query = detect_crop_features(df, detector, digits, pick=pick, no_box=no_box)  # type: ignore[arg-type]
    rows = by_id(query)
    found = [row.boxes for row in by_id(predict(df, detector, task="detect"))]
    program = accel.device("cpu").compile(digits)
    for image, row, boxes in zip(images, rows, found, strict=False):
        if boxes:
            assert as_tuples(row.crops) == as_tuples(boxes)
        elif no_box == "null":
            assert row.crops == []
        else:
            height, width = image.shape[:2]
            assert as_tuples(row.crops) == [(0, 0, width, height, 0, -1, "")]
        for crop in row.crops:
            (x1, x2), (y1, y2) = (
                _span(low, high, size)
                for low, high, size in zip((crop.x1, crop.y1), (crop.x2, crop.y2),
                                           image.shape[1::-1], strict=True)
            )  # fmt: skip
            pixels = ImageChain(resize=(32, 32))(image[y1:y2, x1:x2])[..., :1]
            assert bytes(crop.features) == program.run(pixels[np.newaxis]).tobytes()
            assert crop.dim == 10
    assert [row.error.code for row in rows[COUNT + 1 :]] == ["NULL_INPUT", "EMPTY", "DECODE"]


def test_detect_crop_features_reads_what_it_found(
    df: DataFrame, detector: accel.Model, digits: accel.Model
) -> None:
    rows = by_id(detect_crop_features(df, detector, digits, batch_size=3))[:COUNT]
    labels = [int(np.frombuffer(row.crops[0].features, "<f4").argmax()) for row in rows]
    assert sum(a == b for a, b in zip(labels, pages(COUNT)[1].tolist(), strict=True)) >= COUNT - 1


def test_detect_crop_features_holds_few_images_at_once(
    df: DataFrame, detector: accel.Model, digits: accel.Model
) -> None:
    spark = df.sparkSession
    expected = by_id(detect_crop_features(df, detector, digits))
    spark.conf.set("spark.accel.batchBytes", str(3 * 128 * 128 * 3))
    try:
        assert by_id(detect_crop_features(df, detector, digits)) == expected
    finally:
        spark.conf.unset("spark.accel.batchBytes")


def test_span_has_a_pixel_within_the_image() -> None:
    assert _span(2.2, 5.1, 10) == (2, 6)
    assert _span(-3.0, 20.0, 10) == (0, 10)
    assert _span(10.0, 10.0, 10) == (9, 10)
    assert _span(4.0, 4.0, 10) == (4, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pick": "first"}, "pick is 'first'"),
        ({"pick": 0}, "pick is 0"),
        ({"pad": -0.1}, r"pad is -0\.1"),
        ({"no_box": "skip"}, "no_box is 'skip'; expected one of whole, null"),
        ({"input": "id"}, "column 'id' is int"),
        ({"min_score": 2}, "score is 2"),
        ({"kind": "tensor"}, "task 'detect' takes images"),
    ],
)
def test_detect_crop_features_wrong_request_fails_before_the_job(
    df: DataFrame, detector: accel.Model, digits: accel.Model,
    arguments: dict[str, object], message: str,
) -> None:  # fmt: skip
    with pytest.raises(InputError, match=message):
        detect_crop_features(df, detector, digits, **arguments)  # type: ignore[arg-type]


def test_predict_detect_with_another_model_says_what_to_do(
    df: DataFrame, detector: accel.Model, cnn: accel.Model
) -> None:
    with pytest.raises(InputError, match="is no detector; make one"):
        predict(df, cnn, task="detect")
    with pytest.raises(InputError, match="leave out chain="):
        predict(df, detector, task="detect", chain=ImageChain(resize=10))
