"""Boxes as (n, 4) arrays of x1, y1, x2, y2, and what is found before and after suppression."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Candidates(NamedTuple):
    """Boxes of one image before suppression.

    Attributes
    ----------
    boxes : (n, 4) float32, relative to the network's input: 0..1 where they lie inside
    scores : (n,) float32
    classes : (n,) int64, from 0, background left out
    """

    boxes: Array
    scores: Array
    classes: Array

    def clipped(self) -> Candidates:
        """Inside 0..1; without those that are not finite or have no area left."""
        finite = np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.scores)
        boxes = np.clip(self.boxes, 0.0, 1.0)
        good = finite & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return Candidates(boxes[good], self.scores[good], self.classes[good])


def from_centres(centres: Array, sizes: Array) -> Array:
    """Corners of boxes given by (n, 2) centres and (n, 2) widths and heights."""
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=-1)


def areas(boxes: Array) -> Array:
    """(n,) areas; 0 where a box is turned inside out."""
    sizes = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    product: Array = sizes[..., 0] * sizes[..., 1]
    return product


def overlaps(one: Array, many: Array) -> Array:
    """Intersection over union of (n, 4) with (m, 4) boxes: (n, m), 0 where both are empty."""
    low = np.maximum(one[:, None, :2], many[None, :, :2])
    high = np.minimum(one[:, None, 2:], many[None, :, 2:])
    inner = areas(np.concatenate([low, high], axis=-1))
    union = areas(one)[:, None] + areas(many)[None, :] - inner
    shares: Array = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return shares
