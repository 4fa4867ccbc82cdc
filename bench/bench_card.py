"""How fast the simulated card itself runs: requests through rings, DMA and engines per second.

make bench BENCH=bench/bench_card.py
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from accel.fpga import Card, Network, topology
from accel.fpga.report import Measurement, measure

REQUESTS = 200


@pytest.mark.parametrize("card", ["alveo-u50", "zcu102"])
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def bench_card(benchmark: BenchmarkFixture, name: str, card: str) -> None:
    """Wall time of 200 requests of one image; the simulated rate stands beside it."""
    network = Network.of_shapes(name, topology(name), 224 * 224 * 3)

    def run() -> Measurement:
        return measure(Card(card, trace=False), network, REQUESTS)

    assert run().outcomes == {"card": REQUESTS}
    found = benchmark(run)
    benchmark.extra_info["simulated images/s"] = round(found.images_per_s, 1)
    if benchmark.stats is not None:  # nothing is timed with --benchmark-disable
        benchmark.extra_info["requests/s"] = round(REQUESTS / benchmark.stats.stats.median)
