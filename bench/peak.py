"""Peak of int8 dot products on one core: what every other figure is a share of.

The dot instruction of an instruction set alone, on a full register tile. Run:
python bench/peak.py
"""

from __future__ import annotations

from accel import kernels, peak


def dot_peak(isa: str) -> float:
    """Operations (2 per multiplication) per second of one core, the best of several rounds."""
    return 2.0 * peak.dot_peak(isa)


def dot_peaks() -> dict[str, float]:
    """GOP/s of every instruction set of this CPU."""
    return {name: round(dot_peak(name) / 1e9, 1) for name in kernels.isas()}


def dot_rate() -> float:
    """The same by the set in use, once."""
    return 2.0 * peak.dot_rate()


if __name__ == "__main__":
    for name, rate in dot_peaks().items():
        print(f"{name:12s} {rate:7.1f} GOP/s per core")
