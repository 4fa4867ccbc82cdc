"""Peak of int8 dot products: what every other speed is a share of."""

from __future__ import annotations

import time
from functools import cache

from accel import kernels

ROUNDS = 30
STEPS = 100_000


@cache
def dot_peak(isa: str) -> float:
    """Multiplications per second of one core with nothing but the dot instruction, on a full
    register tile: the best of several rounds, measured once in a process."""
    with kernels.use_isa(isa):
        return max(dot_rate() for _ in range(ROUNDS))


def dot_rate() -> float:
    """The same by the instruction set in use, once."""
    start = time.perf_counter()
    count = kernels.run_dots(STEPS)
    return count / (time.perf_counter() - start)
