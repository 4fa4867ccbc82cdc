"""How good boxes are: mean average precision against labels, agreement with another run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from accel.detection.boxes import Array, overlaps

RECALLS = np.linspace(0, 1, 101)


class Boxes(Protocol):
    """Boxes of one image: `accel.Detections`, or `Truth`."""

    @property
    def boxes(self) -> Array: ...
    @property
    def classes(self) -> Array: ...


class Scored(Boxes, Protocol):
    """Boxes of one image with scores, as `accel.Detections`."""

    @property
    def scores(self) -> Array: ...


class Truth(NamedTuple):
    """Labels of one image: (n, 4) boxes x1, y1, x2, y2 in pixels and (n,) class ids."""

    boxes: Array
    classes: Array


def mean_average_precision(
    found: Sequence[Scored], truth: Sequence[Boxes], overlap: float = 0.5
) -> float:
    """Mean over the classes that are labelled of `average_precision`."""
    labelled = {int(c) for image in truth for c in image.classes}
    return float(np.mean([average_precision(found, truth, c, overlap) for c in sorted(labelled)]))


def average_precision(
    found: Sequence[Scored], truth: Sequence[Boxes], label: int, overlap: float = 0.5
) -> float:
    """Area below precision over recall of one class, 101 recalls, 0..1.

    By falling score, a box is right if it overlaps a label of its class that no box has taken
    yet by at least `overlap`; it takes the one it overlaps most.

    Source: Lin et al., *Microsoft COCO: Common Objects in Context*, ECCV 2014.
    """
    scores, right, labels = [], [], 0
    for got, want in zip(found, truth, strict=True):
        of_class = got.classes == label
        own = want.boxes[want.classes == label]
        order = np.argsort(-got.scores[of_class], kind="stable")
        taken = _matches(got.boxes[of_class][order], own, overlap)
        scores.append(got.scores[of_class][order])
        right.append(taken >= 0)
        labels += len(own)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.cumsum(np.concatenate(right)[order])
    if labels == 0 or len(hits) == 0:
        return 0.0
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # the best at this recall or beyond
    place = np.searchsorted(hits / labels, RECALLS, side="left")
    return float(np.where(place < len(best), best[np.minimum(place, len(best) - 1)], 0).mean())


class Agreement(NamedTuple):
    """Boxes of a reference, how many of them another run found, and how many it found besides."""

    boxes: int
    matched: int
    extra: int

    @property
    def share(self) -> float:
        """Matched boxes of the reference, 0..1; 1 where it has none."""
        return self.matched / self.boxes if self.boxes else 1.0


def agreement(
    found: Sequence[Boxes], reference: Sequence[Boxes], overlap: float = 0.5
) -> Agreement:
    """How many boxes of the reference have a box of their class that overlaps by `overlap`.

    Each box matches at most one; both runs use the same thresholds.
    """
    total = matched = others = 0
    for got, want in zip(found, reference, strict=True):
        for label in np.unique(np.concatenate([got.classes, want.classes])):
            mine, theirs = got.boxes[got.classes == label], want.boxes[want.classes == label]
            matched += int((_matches(mine, theirs, overlap) >= 0).sum())
            total, others = total + len(theirs), others + len(mine)
    return Agreement(total, matched, others - matched)


def _matches(boxes: Array, targets: Array, overlap: float) -> Array:
    """For each box in turn the free target it overlaps most, -1 where none reaches `overlap`."""
    shares = overlaps(boxes.astype(np.float64), targets.astype(np.float64))
    found = np.full(len(boxes), -1, np.int64)
    if len(targets) == 0:
        return found
    for i, share in enumerate(shares):
        best = int(np.argmax(share))
        if share[best] >= overlap:
            found[i] = best
            shares[:, best] = -1.0
    return found
