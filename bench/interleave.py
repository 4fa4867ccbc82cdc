"""Measuring several engines so that noise hits all of them alike.

Every round runs a short burst of each engine in turn, after one call that warms the caches, and a
burst of the dot instruction alone. An engine's time is that of its best burst, and so is the peak:
what else runs on the machine can only add to a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from layer import Layer
from peak import dot_rate

from accel import kernels

Run = Callable[[], Any]
BURST_S, ROUNDS, TOTAL_S = 2e-3, 15, 4.0


class Burst:
    """Repeated calls of one engine, long enough for the clock; remembers the time of one call."""

    def __init__(self, run: Run) -> None:
        run()
        start = time.perf_counter()
        run()
        once = max(time.perf_counter() - start, 1e-7)
        self.run, self.count = run, max(1, round(BURST_S / once))
        self.seconds = once * (self.count + 1)
        self.times: list[float] = []

    def __call__(self) -> None:
        self.run()
        start = time.perf_counter()
        for _ in range(self.count):
            self.run()
        self.times.append((time.perf_counter() - start) / self.count)


def measure(
    benchmark: Any, layer: Layer, runs: dict[str, Run], threads: int, modes: dict[str, str]
) -> None:
    """Times all runs; pytest-benchmark times the bursts of the first, ours.

    `extra_info["engines"]` has for each run its best and median time, GOP/s (of the best; two
    operations a multiplication), the share of the dot peak of all threads, and its mode.
    """
    bursts = {name: Burst(run) for name, run in runs.items()}
    first, *others = bursts.values()
    rates: list[float] = []

    def setup() -> None:
        for burst in others:
            burst()
        dot_rate()  # warms up, as the others do
        rates.append(dot_rate())

    total = sum(burst.seconds for burst in bursts.values())
    rounds = max(3, min(ROUNDS, int(TOTAL_S / total)))
    benchmark.pedantic(first, setup=setup, rounds=rounds)
    peak = max(rates)
    engines = {}
    for name, burst in bursts.items():
        best, rate = min(burst.times), 2.0 * layer.macs / min(burst.times)
        engines[name] = {
            "engine": name.split()[0],
            "mode": modes[name],
            "best_us": round(best * 1e6, 2),
            "median_us": round(median(burst.times) * 1e6, 2),
            "gop_per_s": round(rate / 1e9, 1),
            "share_of_peak": round(rate / peak / threads, 4),
        }
    benchmark.extra_info.update(
        layer=layer.name,
        macs=layer.macs,
        threads=threads,
        isa=kernels.isa(),
        dot_peak_gop_per_s=round(peak / 1e9, 1),
        engines=engines,
    )
