"""Boxes of YOLO grids: each cell and anchor gives an offset, a size, an objectness and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from accel.detection.boxes import Array, Candidates, from_centres
from accel.errors import ModelError

LARGEST_EXPONENT = 20.0  # a size of e^20 anchors is cut to the image in any case


@dataclass(frozen=True)
class YoloHead:
    """Outputs (N, anchors x (5 + classes), H, W), one for each grid.

    Attributes
    ----------
    anchors : for each output, (width, height) of its anchors in pixels of the network's input
    form : "exp" as in YOLO v2 to v4 (size = e^t anchors), "square" as in v5 ((2 sigmoid t)^2)

    Source: Redmon and Farhadi, *YOLOv3: An Incremental Improvement*, arXiv:1804.02767.
    """

    anchors: tuple[tuple[tuple[float, float], ...], ...]
    form: Literal["exp", "square"] = "exp"

    def decode(
        self, outputs: Sequence[Array], images: int, size: tuple[int, int], least: float
    ) -> list[Candidates]:
        """Candidates of each of `images` images; `size` is the network's (height, width)."""
        if len(outputs) != len(self.anchors):
            raise ModelError(
                f"the head has anchors for {len(self.anchors)} grids, the network has "
                f"{len(outputs)} outputs; expected one group of anchors for each output"
            )
        grids = [self._grid(y, a) for y, a in zip(outputs, self.anchors, strict=True)]
        return [
            _joined([self._cells(y[i], a, size, least)
                     for y, a in zip(grids, self.anchors, strict=True)])
            for i in range(images)
        ]  # fmt: skip

    def _grid(self, y: Array, anchors: Sequence[tuple[float, float]]) -> Array:
        """(N, anchors, 5 + classes, H, W)."""
        values = y.shape[1] // len(anchors) if y.ndim == 4 else 0
        if values < 6 or y.shape[1] % len(anchors):
            raise ModelError(
                f"an output of shape {y.shape} is no YOLO grid of {len(anchors)} anchors; "
                "expected (N, anchors x (5 + classes), H, W)"
            )
        return y.reshape(y.shape[0], len(anchors), values, *y.shape[2:])

    def _cells(
        self, y: Array, anchors: Sequence[tuple[float, float]], size: tuple[int, int], least: float
    ) -> Candidates:
        anchor, row, column = np.nonzero(_sigmoid(y[:, 4]) > least)  # no score passes objectness
        t = y[anchor, :, row, column]
        scores = _sigmoid(t[:, 4:5]) * _sigmoid(t[:, 5:])
        cell, label = np.nonzero(scores > least)
        t, kept = t[cell], scores[cell, label]
        cells = np.stack([column, row], axis=1)[cell]
        relative = np.array(anchors, np.float32) / np.array([size[1], size[0]], np.float32)
        centres, sizes = self._shape(t[:, :4], relative[anchor[cell]])
        grid = np.array([y.shape[3], y.shape[2]], np.float32)
        boxes = from_centres((centres + cells) / grid, sizes)
        return Candidates(boxes.astype(np.float32), kept, label)

    def _shape(self, t: Array, anchors: Array) -> tuple[Array, Array]:
        """Centre within the cell, and size relative to the image."""
        if self.form == "square":
            return 2 * _sigmoid(t[:, :2]) - 0.5, (2 * _sigmoid(t[:, 2:])) ** 2 * anchors
        return _sigmoid(t[:, :2]), np.exp(np.minimum(t[:, 2:], LARGEST_EXPONENT)) * anchors


def _sigmoid(x: Array) -> Array:
    half: Array = 0.5 * (1.0 + np.tanh(0.5 * x))  # tanh cannot overflow
    return half


def _joined(parts: Sequence[Candidates]) -> Candidates:
    return Candidates(*(np.concatenate(same) for same in zip(*parts, strict=True)))
