"""Results: the classes that a row lists, and in which order."""

from __future__ import annotations

import numpy as np
import pytest

from spark_bridge.results import _highest


@pytest.mark.parametrize("k", [1, 3, 7, 20])
def test_highest_is_the_head_of_a_stable_sort(rng: np.random.Generator, k: int) -> None:
    for _ in range(50):
        scores = rng.integers(0, 6, 20).astype(np.float32)  # many are equal
        scores[rng.random(20) < 0.3] = np.nan
        scores[rng.random(20) < 0.1] = np.inf
        expected = np.argsort(-scores, kind="stable")[:k]
        assert np.array_equal(_highest(scores, k), expected)


def test_highest_of_nothing_but_nan_is_in_order() -> None:
    assert _highest(np.full(4, np.nan, np.float32), 2).tolist() == [0, 1]
