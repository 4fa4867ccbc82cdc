"""Average precision and agreement on cases small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel.detection.metrics import Truth, agreement, average_precision, mean_average_precision


def found(*rows: tuple[float, float, int]) -> accel.Detections:
    """Boxes 10x10 by (left, score, class)."""
    boxes = [[x, 0, x + 10, 10] for x, _, _ in rows]
    return accel.Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([s for _, s, _ in rows], np.float32),
        np.array([c for _, _, c in rows], np.int64),
        tuple(str(c) for _, _, c in rows),
    )


def truth(*rows: tuple[float, int]) -> Truth:
    image = found(*((x, 1.0, c) for x, c in rows))
    return Truth(image.boxes, image.classes)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(0, 0.9, 0), (100, 0.8, 0)], 1.0),
        ([], 0.0),
        ([(0, 0.9, 0)], 51 / 101),  # recall 0.5: 51 of the 101 recalls are reached
        ([(50, 0.95, 0), (0, 0.9, 0), (100, 0.8, 0)], 2 / 3),  # best precision at either recall
        ([(0, 0.9, 0), (1, 0.8, 0)], 51 / 101),  # a label is taken once
        ([(0, 0.9, 1), (100, 0.8, 1)], 0.0),  # of another class
        ([(6, 0.9, 0), (100, 0.8, 0)], 0.5 * 51 / 101),  # overlap 4/16 < 0.5
    ],
)
def test_average_precision(boxes: list[tuple[float, float, int]], expected: float) -> None:
    labels = [truth((0, 0), (100, 0))]
    assert average_precision([found(*boxes)], labels, 0) == pytest.approx(expected)


def test_mean_is_over_labelled_classes_and_all_images() -> None:
    got = [found((0, 0.9, 0), (50, 0.9, 7)), found((0, 0.5, 1))]
    labels = [truth((0, 0)), truth((0, 1), (100, 1))]
    assert mean_average_precision(got, labels) == pytest.approx((1 + 51 / 101) / 2)


def test_agreement_counts_matched_lost_and_extra() -> None:
    reference = [found((0, 0.9, 0), (100, 0.8, 0), (200, 0.7, 1))]
    other = [found((1, 0.9, 0), (2, 0.8, 0), (200, 0.7, 0))]
    result = agreement(other, reference)
    assert result == (3, 1, 2) and result.share == pytest.approx(1 / 3)
    assert agreement([found()], [found()]).share == 1.0
