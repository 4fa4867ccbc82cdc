"""Trained detectors, where they are present: their accuracy in fp32, and how int8 follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image as Pillow

import accel
from accel.detection.metrics import Truth, agreement, mean_average_precision
from accel.images import read_folder

Array = np.ndarray[Any, Any]


class Case(NamedTuple):
    """A detector and its measured fp32 figures: mAP at IoU 0.5, or boxes and images with some."""

    file: str
    spec: str
    score: float
    overlap: float
    quality: float | None = None
    boxes: tuple[int, int] | None = None


CASES = [
    Case("yolo-fastest-1.1.onnx", "yolo-fastest-1.1", 0.005, 0.45, 0.3337),
    Case("st_ssd_mobilenet_v1_0.25_256.onnx", "st-ssd-mobilenet-person", 0.01, 0.5, 0.3348),
    Case("version-RFB-320.onnx", "ultra-light-face-320", 0.5, 0.3, boxes=(89, 50)),
    Case("original/caffe/RFB-320.caffemodel", "ultra-light-face-320-offsets", 0.5, 0.3,
         boxes=(89, 50)),
]  # fmt: skip


@pytest.fixture(scope="module")
def coco(shared: Path) -> tuple[list[Array], list[Truth]]:
    """128 images with their labels."""
    folder = shared / "data" / "images" / "coco128"
    images, labels = [], []
    for name, image in read_folder(folder / "images"):
        assert isinstance(image, np.ndarray)
        text = (folder / "labels" / name).with_suffix(".txt").read_text().split()
        rows = np.array(text, np.float64).reshape(-1, 5)
        boxes = np.hstack([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2])
        images.append(image)
        labels.append(Truth(boxes * ([image.shape[1], image.shape[0]] * 2), rows[:, 0]))
    return images, labels


class Bilinear(accel.Detector):
    """Resizes as the measured figures were made."""

    def prepare(self, image: Array) -> Array:
        size = (self.size[1], self.size[0])
        return np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.BILINEAR))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.spec)
def test_int8_follows_fp32_and_fp32_its_figure(
    case: Case, shared: Path, coco: tuple[list[Array], list[Truth]]
) -> None:
    images, labels = coco
    model = accel.load(shared / "data" / "models" / case.file).as_detector(case.spec)
    fp32, int8 = (
        Bilinear(accel.device(d).compile(m, threads=2), case.score, case.overlap, 300)
        for d, m in (("onnxruntime", model), ("cpu", model.quantize()))
    )
    want, got = fp32.detect(images), int8.detect(images)
    if case.quality is not None:
        if fp32.spec.names == ("person",):
            labels = [Truth(t.boxes[t.classes == 0], t.classes[t.classes == 0]) for t in labels]
        reached = mean_average_precision(want, labels)
        assert reached >= case.quality - 0.001
        assert abs(mean_average_precision(got, labels) - reached) <= 0.01
    spec = model.detector_spec
    assert spec is not None
    visible = [above(f, spec.score) for f in want]
    if case.boxes is not None:
        assert (sum(map(len, visible)), sum(len(v) > 0 for v in visible)) == case.boxes
    assert agreement([above(f, spec.score) for f in got], visible).share >= 0.95
    # a score near the threshold falls on either side: found again, if up to a fifth lower
    assert agreement([above(f, 0.8 * spec.score) for f in got], visible).share >= 0.98


def above(found: accel.Detections, score: float) -> accel.Detections:
    kept = found.scores > score
    names = tuple(np.array(found.names, object)[kept])
    return accel.Detections(found.boxes[kept], found.scores[kept], found.classes[kept], names)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.spec)
def test_every_device_finds_the_same(
    case: Case, shared: Path, coco: tuple[list[Array], list[Truth]]
) -> None:
    images = coco[0][10:13]
    model = accel.load(shared / "data" / "models" / case.file).as_detector(case.spec).quantize()
    found = {
        name: accel.Detector(accel.device(name).compile(model), score=0.1).detect(images)
        for name in ("cpu", "mkl", "fpga", "openvino", "onnxruntime", "auto")
    }
    assert sum(map(len, found["cpu"])) > 0
    for name in ("mkl", "fpga"):
        for got, want in zip(found[name], found["cpu"], strict=True):
            np.testing.assert_array_equal(got.boxes, want.boxes)
            np.testing.assert_array_equal(got.scores, want.scores)
    for name in ("openvino", "onnxruntime", "auto"):  # with float activations, or any of them
        strong = [above(f, 0.3) for f in found["cpu"]]
        assert agreement(found[name], strong).share >= 0.9


def test_person_network_reaches_its_figure(
    shared: Path, coco: tuple[list[Array], list[Truth]]
) -> None:
    images, labels = coco
    small = [np.asarray(Pillow.fromarray(i).resize((96, 96), Pillow.Resampling.BILINEAR))
             for i in images]  # fmt: skip
    share = [max((np.prod(t.boxes[t.classes == 0, 2:] - t.boxes[t.classes == 0, :2], axis=1)
             / np.prod(i.shape[:2])).tolist(), default=0.0)
             for i, t in zip(images, labels, strict=True)]  # fmt: skip
    person = np.array(share) >= 0.005
    model = accel.load(shared / "data" / "models" / "vww_mobilenet_v1_0.25_96.onnx")
    model = model.with_preprocessing(scale=255.0)
    x = np.stack(small)
    fp32 = np.asarray(accel.device("onnxruntime").compile(model, 32).run(x)).argmax(1)
    int8 = np.asarray(accel.device("cpu").compile(model.quantize(), 32).run(x)).argmax(1)
    assert person.mean() == pytest.approx(0.508, abs=0.001)
    assert (fp32 == person).mean() >= 0.84
    assert (int8 == fp32).mean() >= 0.97
