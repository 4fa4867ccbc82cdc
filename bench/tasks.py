"""What accuracy is measured on: the trained models beside the repository with their labelled data.

A `Task` joins a network with its preprocessing, inputs and labels. Three kinds:

- `Classes`: the best class of each row; `quality` is top-1.
- `Features`: a vector for each image; `quality` is precision@1 in a gallery.
- `Boxes`: detections; `quality` is the mean average precision at an overlap of 0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from datasets import DATA, cifar10, enlarged, imagenet, persons, photographs, reviews

import accel
from accel.detection.metrics import Truth, agreement, mean_average_precision

Array = np.ndarray[Any, Any]


class Comparison(NamedTuple):
    """How a run compares with fp32 and with the labels; shares are 0..1.

    Attributes
    ----------
    agreement : rows of the same class; boxes of fp32 that were found; mean cosine of features.
    quality : top-1, precision@1 or mAP of this run; None without labels.
    won, lost : rows right here and wrong in fp32, and the other way round; None for other kinds.
    """

    agreement: float
    quality: float | None
    won: int | None = None
    lost: int | None = None


class Task(Protocol):
    """A network with data.

    Attributes
    ----------
    name : of the table's row.
    size : rows measured.
    fp32 : published quality in fp32 on exactly these data, None where there is none.
    """

    name: str
    fp32: float | None

    @property
    def size(self) -> int: ...

    def model(self) -> accel.Model:
        """The fp32 network with its preprocessing."""
        ...

    def calibration(self) -> Array:
        """Inputs for engines that need samples."""
        ...

    def run(self, program: accel.Program) -> Any:
        """What `compare` takes."""
        ...

    def compare(self, found: Any, reference: Any) -> Comparison: ...


@dataclass(frozen=True)
class Classes:
    """Rows with one label each."""

    name: str
    file: str
    rows: Callable[[], tuple[Array, Array]]
    samples: Callable[[], Array]
    preprocessing: dict[str, Any] | None
    fp32: float | None

    @property
    def size(self) -> int:
        return len(self.rows()[1])

    def model(self) -> accel.Model:
        loaded = accel.load(DATA / "models" / self.file)
        return (
            loaded
            if self.preprocessing is None
            else loaded.with_preprocessing(**self.preprocessing)
        )

    def calibration(self) -> Array:
        return self.samples()

    def run(self, program: accel.Program) -> Array:
        outputs = program.run(self.rows()[0])
        assert isinstance(outputs, np.ndarray)
        classes: Array = outputs.reshape(len(outputs), -1).argmax(axis=1)
        return classes

    def compare(self, found: Array, reference: Array) -> Comparison:
        labels = self.rows()[1]
        here, there = found == labels, reference == labels
        return Comparison(
            float((found == reference).mean()),
            float(here.mean()),
            int((here & ~there).sum()),
            int((~here & there).sum()),
        )


@dataclass(frozen=True)
class Features:
    """Queries and a gallery, both with labels; queries come first in a run."""

    name: str
    file: str
    queries: Callable[[], tuple[Array, Array]]
    gallery: Callable[[], tuple[Array, Array]]
    preprocessing: dict[str, Any]
    fp32: float | None

    @property
    def size(self) -> int:
        return len(self.queries()[1]) + len(self.gallery()[1])

    def model(self) -> accel.Model:
        return accel.load(DATA / "models" / self.file).with_preprocessing(**self.preprocessing)

    def calibration(self) -> Array:
        return self.gallery()[0][:100]

    def run(self, program: accel.Program) -> Array:
        parts = [program.run(rows()[0]) for rows in (self.queries, self.gallery)]
        vectors = np.concatenate([np.asarray(p).reshape(len(p), -1) for p in parts])  # type: ignore[arg-type]
        unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def compare(self, found: Array, reference: Array) -> Comparison:
        labels, known = self.queries()[1], self.gallery()[1]
        nearest = (found[: len(labels)] @ found[len(labels) :].T).argmax(axis=1)
        return Comparison(
            float((found * reference).sum(axis=1).mean()), float((known[nearest] == labels).mean())
        )


@dataclass(frozen=True)
class Boxes:
    """Photographs with labelled boxes; `label` picks one class of the labels, None takes all."""

    name: str
    file: str
    description: str
    label: int | None
    lowest: float
    fp32: float | None

    @property
    def images(self) -> list[Array]:
        return photographs()[0]

    @property
    def size(self) -> int:
        return len(self.images)

    def model(self) -> accel.Model:
        return accel.load(DATA / "models" / self.file).as_detector(self.description)

    def calibration(self) -> Array:
        detector = accel.Detector(accel.device("onnxruntime").compile(self.model()))
        return np.stack([detector.prepare(image) for image in self.images[:100]])

    def run(self, program: accel.Program) -> tuple[list[Any], list[Any]]:
        """Boxes of any score, for the precision; boxes of the usual score, for the agreement."""
        found = accel.Detector(program, score=self.lowest, limit=1000).detect(self.images)
        return found, accel.Detector(program).detect(self.images)

    def compare(self, found: Any, reference: Any) -> Comparison:
        shared = agreement(found[1], reference[1]).share
        if self.fp32 is None:
            return Comparison(shared, None)
        truth = [t if self.label is None else _only(t, self.label) for t in photographs()[1]]
        return Comparison(shared, mean_average_precision(found[0], truth))


def _only(truth: Truth, label: int) -> Truth:
    """Boxes of one class, which the detector calls 0."""
    kept = truth.boxes[truth.classes == label]
    return Truth(kept, np.zeros(len(kept), np.int64))


RGB = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PIXELS = {"scale": 1.0}
BGR = {"mean": (104, 117, 123), "scale": 1.0, "order": "bgr"}
SIGNED = {"mean": 1.0, "scale": 127.5}
UNIT = {"scale": 255.0}


def _cifar10(
    name: str, file: str, data: str, preprocessing: dict[str, Any], fp32: float
) -> Classes:
    samples = "train_lossless_1000"
    return Classes(
        name, file, lambda: cifar10(data), lambda: cifar10(samples)[0][:500], preprocessing, fp32
    )


def _imagenet(
    name: str, file: str, side: int, preprocessing: dict[str, Any], fp32: float
) -> Classes:
    return Classes(
        name, file, lambda: imagenet(side), lambda: imagenet(side)[0][:100], preprocessing, fp32
    )


def tasks() -> list[Task]:
    """All of them; the data are read when they are first asked for."""
    exact, jpeg = "test_lossless", "test_jpeg_5000"
    return [
        _cifar10("resnet20", "resnet20_cifar10.onnx", jpeg, RGB, 0.8100),
        _cifar10("resnet56", "resnet56_cifar10.onnx", jpeg, RGB, 0.8312),
        _cifar10("resnet8", "resnet8_cifar10.onnx", jpeg, PIXELS, 0.7524),
        _cifar10("resnet20, exact pixels", "resnet20_cifar10.onnx", exact, RGB, 0.9143),
        _cifar10("resnet56, exact pixels", "resnet56_cifar10.onnx", exact, RGB, 0.9263),
        _cifar10("resnet8, exact pixels", "resnet8_cifar10.onnx", exact, PIXELS, 0.8884),
        _imagenet("squeezenet1.1", "squeezenet1.1.onnx", 227, BGR, 0.614),
        _imagenet("mobilenet_v2", "mobilenet_v2_1.0_224_ptq_dq.onnx.xz", 224, SIGNED, 0.864),
        Classes(
            "vww_mobilenet", "vww_mobilenet_v1_0.25_96.onnx", persons, lambda: persons()[0][:100],
            UNIT, 0.844,
        ),
        Classes(
            "text_classification", "text_classification.onnx", reviews, lambda: reviews()[0][:100],
            None, 0.746,
        ),
        Features(
            "mobilenet_v1, features", "mobilenet_v1_1.0_224_trunk12.onnx",
            lambda: enlarged("test_lossless"), lambda: enlarged("train_lossless_1000"), SIGNED,
            0.598,
        ),
        Boxes("yolo-fastest", "yolo-fastest-1.1.onnx", "yolo-fastest-1.1", None, 0.005, 0.3337),
        Boxes(
            "ssd_mobilenet, persons", "st_ssd_mobilenet_v1_0.25_256.onnx",
            "st-ssd-mobilenet-person", 0, 0.01, 0.3348,
        ),
        Boxes("RFB-320, faces", "version-RFB-320.onnx", "ultra-light-face-320", None, 0.7, None),
    ]  # fmt: skip
