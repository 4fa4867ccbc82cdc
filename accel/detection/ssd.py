"""Boxes of SSD heads: scores and offsets for every prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from accel.detection.boxes import Array, Candidates, from_centres
from accel.detection.outputs import output
from accel.detection.priors import PriorGrid
from accel.errors import ModelError

LARGEST_EXPONENT = 20.0  # a size of e^20 priors is cut to the image in any case


@dataclass(frozen=True)
class SsdHead:
    """Scores (N, n, classes with background) and boxes (N, n, 4), by the place of the output.

    Attributes
    ----------
    scores, boxes : which output, from 0
    coding : what `boxes` holds: "corners" are boxes already, x1, y1, x2, y2 relative to the
        input; "corner_offsets" moves each corner of a prior by that share of the prior's size;
        "centre_size" moves the centre and scales by e^t
    priors : the output (N, n, 4) that holds them as corners, or a grid to compute them; None for
        "corners"
    variances : factors of the centre's and the size's offsets for "centre_size"
    background : column of `scores` that is no class, or None

    Source: Liu et al., *SSD: Single Shot MultiBox Detector*, ECCV 2016.
    """

    scores: int = 0
    boxes: int = 1
    coding: Literal["corners", "corner_offsets", "centre_size"] = "corners"
    priors: int | PriorGrid | None = None
    variances: tuple[float, float] = (0.1, 0.2)
    background: int | None = 0

    def decode(
        self, outputs: Sequence[Array], images: int, size: tuple[int, int], least: float
    ) -> list[Candidates]:
        """Candidates of each of `images` images; `size` is the network's (height, width)."""
        scores, boxes = (output(outputs, i) for i in (self.scores, self.boxes))
        if scores.ndim != 3 or boxes.shape != (images, scores.shape[1], 4):
            raise ModelError(
                f"outputs {self.scores} and {self.boxes} have shapes {scores.shape} and "
                f"{boxes.shape}; expected scores ({images}, n, classes) and boxes ({images}, n, 4)"
            )
        if self.background is not None:
            if self.background >= scores.shape[2]:
                raise ModelError(
                    f"the head's background is {self.background}; scores have {scores.shape[2]}"
                )
            scores = np.delete(scores, self.background, axis=2)
        return [self._image(scores[i], boxes[i], outputs, i, size, least)
                for i in range(images)]  # fmt: skip

    def _image(
        self, scores: Array, boxes: Array, outputs: Sequence[Array], image: int,
        size: tuple[int, int], least: float,
    ) -> Candidates:  # fmt: skip
        prior, label = np.nonzero(scores > least)
        found = boxes[prior]
        if self.coding != "corners":
            centres, extents = self._priors(outputs, image, size, len(boxes))
            found = self._moved(found, centres[prior], extents[prior])
        return Candidates(found.astype(np.float32), scores[prior, label], label)

    def _moved(self, offsets: Array, centres: Array, extents: Array) -> Array:
        if self.coding == "corner_offsets":
            moved: Array = from_centres(centres, extents) + offsets * np.tile(extents, 2)
            return moved
        by_centre, by_size = self.variances
        middle = centres + offsets[:, :2] * by_centre * extents
        growth = np.exp(np.minimum(offsets[:, 2:] * by_size, LARGEST_EXPONENT))
        return from_centres(middle, growth * extents)

    def _priors(
        self, outputs: Sequence[Array], image: int, size: tuple[int, int], count: int
    ) -> tuple[Array, Array]:
        if isinstance(self.priors, PriorGrid):
            if self.priors.count(size) != count:
                raise ModelError(f"the grid has {self.priors.count(size)} priors, not {count}")
            return self.priors.boxes(size)
        if self.priors is None:
            raise ModelError(f"coding {self.coding!r} needs priors; the head gives none")
        corners = output(outputs, self.priors)[image]
        if corners.shape != (count, 4):
            raise ModelError(
                f"output {self.priors} has shape {corners.shape} for an image; "
                f"expected priors ({count}, 4)"
            )
        return (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
