"""Peak of int8 dot products on one core: what every other figure is a share of.

The dot instruction of the instruction set alone, on a full register tile. Run:
python bench/peak.py
"""

from __future__ import annotations

import time
from functools import cache

from accel import kernels

ROUNDS = 30
STEPS = 200_000


@cache
def dot_peak(isa: str) -> float:
    """Operations (2 per multiplication) per second of one core, the best of several rounds."""
    with kernels.use_isa(isa):
        return max(_rate() for _ in range(ROUNDS))


def _rate() -> float:
    start = time.perf_counter()
    count = kernels.run_dots(STEPS)
    return 2.0 * count / (time.perf_counter() - start)


if __name__ == "__main__":
    for name in kernels.isas():
        print(f"{name:12s} {dot_peak(name) / 1e9:7.1f} GOP/s per core")
