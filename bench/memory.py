"""What memory bounds: how near it comes to loads and stores alone, in the same rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import LINES
from interleave import Burst
from layer import Array

from accel import kernels

ROUNDS = 25
COPY_BYTES = 320 * 1024  # two such arrays lie in 1 MB of L2


def aligned(size: int, value: int = 1) -> Array:
    """Bytes at a multiple of 64."""
    raw = np.full(size + 64, value, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def copy_in_cache() -> tuple[Callable[[], Any], int]:
    """A copy inside L2, and the bytes that it reads and writes."""
    x, y = aligned(COPY_BYTES), aligned(COPY_BYTES, 2)
    moved = kernels.run_copies(x, y, 1)
    assert np.array_equal(x, y)
    return lambda: kernels.run_copies(x, y, 1), moved


def reads_of(x: Array) -> tuple[Callable[[], Any], int]:
    """Loads of an array where it lies, and their bytes."""
    return lambda: kernels.run_reads(x, 1), kernels.run_reads(x, 1)


def measure_memory(
    benchmark: Any,
    config: pytest.Config,
    name: str,
    run: Callable[[], Any],
    moved: int,
    probe: tuple[Callable[[], Any], int] | None = None,
) -> None:
    """Times the operation and the probe in turn; bytes per second of both, of their best bursts.

    `extra_info["memory"]` has the operation's name, best time and GB/s and, where there is a probe,
    its GB/s and the share that the operation reaches.
    """
    operation, other = Burst(run), Burst(probe[0]) if probe else None
    benchmark.pedantic(operation, setup=other, rounds=ROUNDS)
    best = min(operation.times)
    info = {"operation": name, "best_us": round(best * 1e6, 2), "isa": kernels.isa(),
            "gb_per_s": round(moved / best / 1e9, 1)}  # fmt: skip
    text = f"{name}: {info['best_us']} us, {info['gb_per_s']} GB/s"
    if probe and other:
        limit = probe[1] / min(other.times)
        info["probe_gb_per_s"] = round(limit / 1e9, 1)
        info["share"] = round(moved / best / limit, 4)
        text += f" ({info['share']:.0%} of {info['probe_gb_per_s']})"
    benchmark.extra_info["memory"] = info
    config.stash.setdefault(LINES, []).append(text)
