"""Detection on rows: images framed for the network, and boxes in pixels of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

import accel
from accel.detection.spec import DetectorSpec
from accel.detector import Detections, Detector
from spark_bridge.columns import numbers, text
from spark_bridge.guard import Arrays
from spark_bridge.rows import Array, Row

SIZE = "image size"  # beside the model's input: no model input has this name
FOUND = "found"
BOX = [
    *((name, pa.float32()) for name in ("x1", "y1", "x2", "y2", "score")),
    ("label", pa.int32()), ("name", pa.string()),
]  # fmt: skip


def framed_row(image: Array, spec: accel.TensorSpec, detector: DetectorSpec) -> Row:
    """What a detector takes of one image: the framed pixels, and the size the image had."""
    height, width = spec.shape[:2]
    assert height is not None and width is not None  # checked when the query was built
    framed = detector.frame.apply(image, (height, width))
    return {spec.name: framed, SIZE: np.array(image.shape[:2])}


class DetectingProgram:
    """A detector's program, run on rows of `framed_row`; its output is a Detections a row."""

    outputs = (accel.TensorSpec(FOUND, (None,), np.dtype(object)),)

    def __init__(self, program: accel.Program, min_score: float | None) -> None:
        self._detector = Detector(program, score=min_score)
        self._input = program.inputs[0].name

    def run(self, x: Arrays) -> Arrays:
        """Detections of any number of rows."""
        framed, sizes = x[self._input], x[SIZE].tolist()
        step = self._detector.program.batch_size
        found: list[Detections] = []
        for i in range(0, len(framed), step):
            found += self._detector.run(framed[i : i + step], sizes[i : i + step])
        column = np.empty(len(found), object)
        column[:] = found
        return {FOUND: column}


def boxes(found: Sequence[Any]) -> pa.StructArray:
    """`BOX` for all boxes of some images, given as Detections, end to end."""
    corners = np.concatenate([np.empty((0, 4), np.float32), *(f.boxes for f in found)])
    scores = np.concatenate([np.empty(0, np.float32), *(f.scores for f in found)])
    labels = np.concatenate([np.empty(0, np.int64), *(f.classes for f in found)])
    names = [name for f in found for name in f.names]
    columns = [*map(numbers, corners.T), numbers(scores), numbers(labels.astype(np.int32))]
    return pa.StructArray.from_arrays([*columns, text(names)], fields=list(pa.struct(BOX)))
