"""Peak of int8 dot products on one core: what every other figure is a share of.

The dot instruction of an instruction set alone, on a full register tile. Run:
python bench/peak.py
"""

from __future__ import annotations

import time

from accel import kernels

ROUNDS = 30
STEPS = 100_000


def dot_peak(isa: str) -> float:
    """Operations (2 per multiplication) per second of one core, the best of several rounds."""
    with kernels.use_isa(isa):
        return max(dot_rate() for _ in range(ROUNDS))


def dot_peaks() -> dict[str, float]:
    """GOP/s of every instruction set of this CPU."""
    return {name: round(dot_peak(name) / 1e9, 1) for name in kernels.isas()}


def dot_rate() -> float:
    """The same by the set in use, once."""
    start = time.perf_counter()
    count = kernels.run_dots(STEPS)
    return 2.0 * count / (time.perf_counter() - start)


if __name__ == "__main__":
    for name, rate in dot_peaks().items():
        print(f"{name:12s} {rate:7.1f} GOP/s per core")
