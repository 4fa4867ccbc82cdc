"""Boxes of networks that suppress inside, as Caffe's DetectionOutput does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accel.detection.boxes import Array, Candidates
from accel.detection.outputs import output
from accel.errors import ModelError

MAX_LABEL = 1_000_000  # larger ones are no labels


@dataclass(frozen=True)
class RowsHead:
    """One output (1, 1, found, 7): image, label, score, x1, y1, x2, y2 relative to the input.

    Attributes
    ----------
    first_label : label of the first class; 1 where 0 is the background
    """

    first_label: int = 1

    def decode(
        self, outputs: Sequence[Array], images: int, size: tuple[int, int], least: float
    ) -> list[Candidates]:
        """Candidates of each of `images` images."""
        rows = output(outputs, 0)
        if rows.ndim != 4 or rows.shape[3] != 7:
            raise ModelError(f"output 0 has shape {rows.shape}; expected (1, 1, found, 7)")
        rows = rows.reshape(-1, 7)
        known = (rows[:, 1] >= self.first_label) & (rows[:, 1] < MAX_LABEL)
        rows = rows[(rows[:, 2] > least) & known]
        return [self._image(rows[rows[:, 0] == i]) for i in range(images)]

    def _image(self, rows: Array) -> Candidates:
        classes = rows[:, 1].astype(np.int64) - self.first_label
        return Candidates(rows[:, 3:].astype(np.float32), rows[:, 2], classes)
