"""Peak of int8 dot products on one core: what every other figure is a share of.

A product so small that all of it stays in the first-level cache, by the same register tile as
everything else, so that nothing but the dot instruction can limit it. Run: python bench/peak.py
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np

from accel import kernels

ROUNDS = 30


@cache
def dot_peak(isa: str) -> float:
    """Operations (2 per multiply-add) per second of one core, the best of several rounds."""
    rng = np.random.default_rng(0)
    m, n, k = 28, 32, 512
    with kernels.use_isa(isa):
        weights = kernels.pack_weights(
            rng.integers(-127, 128, (n, k)).astype(np.int8), np.ones(n, np.float32), k
        )
    src = kernels.QTensor((1, 1, m * 20, k), k, True)
    conv = kernels.Conv(
        src, weights, dst=np.empty((1, 1, m * 20, n), np.float32), pool=kernels.Pool(1)
    )
    best = min(_seconds(conv) for _ in range(ROUNDS))
    return 2.0 * 20 * m * n * k / best


def _seconds(conv: kernels.Conv, repeats: int = 20) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        conv()
    return (time.perf_counter() - start) / repeats


if __name__ == "__main__":
    for name in kernels.isas():
        print(f"{name:12s} {dot_peak(name) / 1e9:7.1f} GOP/s per core")
