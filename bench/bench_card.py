"""How fast the simulated card itself runs, timing only, and what the published rows say of it.

    make bench BENCH=bench/bench_card.py
    .venv/bin/python bench/bench_card.py ../shared/calibration    # the table of docs/card.md

`bench_card` counts images through rings, DMA and engines per second of one core, the simulated
events of an image, and how many times faster than the real card that is. The faults of 1,000 seeds
are a command of their own: `accel fpga faults --seeds 1000`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from accel.fpga import Card, Network, topology
from accel.fpga.calibrate import (
    LINK_CARDS,
    PARAMETERS,
    compare_nic,
    fit_engines,
    fit_link,
)
from accel.fpga.fit import Calibration
from accel.fpga.report import Measurement, measure

IMAGES = 1600
IMAGE_BYTES = 224 * 224 * 3
BATCHES = (1, 2, 4, 16)


@pytest.mark.parametrize("card", ["alveo-u50", "zcu102"])
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
@pytest.mark.parametrize("batch", BATCHES)
def bench_card(benchmark: BenchmarkFixture, name: str, card: str, batch: int) -> None:
    """Wall time of 1,600 images in requests of `batch`; the simulated rate stands beside it."""
    found = benchmark(run, name, card, batch)
    assert found.outcomes == {"card": IMAGES // batch}
    benchmark.extra_info["simulated images/s"] = round(found.images_per_s, 1)
    if benchmark.stats is not None:  # nothing is timed with --benchmark-disable
        rate = IMAGES / benchmark.stats.stats.min
        benchmark.extra_info["images/s"] = round(rate)
        benchmark.extra_info["times the card"] = round(rate / found.images_per_s, 1)


def run(name: str, card: str, batch: int) -> Measurement:
    """Put the images through a card that moves no bytes, only time."""
    network = Network.of_shapes(name, topology(name), IMAGE_BYTES, images=batch)
    return measure(Card(card, trace=False), network, IMAGES // batch)


def events(name: str, card: str, batch: int) -> float:
    """Count the simulated events of one image."""
    simulated = Card(card, trace=False)
    count, step_by = [0], simulated.env.step_by

    def counted(limit_ps: float) -> bool:
        taken = step_by(limit_ps)
        count[0] += taken
        return taken

    simulated.env.step_by = counted  # type: ignore[method-assign]
    network = Network.of_shapes(name, topology(name), IMAGE_BYTES, images=batch)
    measure(simulated, network, IMAGES // batch)
    return count[0] / IMAGES


def print_speed() -> None:
    """Rates of one core: the best of five runs, in processor time."""
    print("ResNet-50 on alveo-u50, timing only")
    for batch in BATCHES:
        seconds = []
        for _ in range(5):
            start = time.process_time()
            found = run("resnet50", "alveo-u50", batch)
            seconds.append(time.process_time() - start)
        rate = IMAGES / min(seconds)
        steps, gain = events("resnet50", "alveo-u50", batch), rate / found.images_per_s
        print(f"  batch {batch:2}: {rate:8,.0f} images/s, {steps:5.2f} events an image, "
              f"{gain:5.1f} times the card")  # fmt: skip


def print_rows(folder: Path) -> None:
    """Mean and worst error of every family, fitted and left out."""
    engines = [fit_engines(folder / "accelerators.csv", family) for family in PARAMETERS]
    links = [fit_link(folder / "dma.csv", card) for card in LINK_CARDS]
    print("| rows of | rows | mean | worst | left out: mean | worst |\n|---|---|---|---|---|---|")
    for found in (*engines, *links, compare_nic(folder / "nic.csv")):
        print(_row(found))


def _row(found: Calibration) -> str:
    cells = [found.family, str(len(found.rows)), f"{found.mean_error:.1%}"]
    cells.append(f"{found.worst.name}, {found.worst.error:+.1%}")
    if found.left_out:
        errors = [abs(row.left_out_error) for row in found.left_out]
        worst = max(found.left_out, key=lambda row: abs(row.left_out_error))
        cells += [f"{sum(errors) / len(errors):.1%}", f"{worst.name}, {worst.left_out_error:+.1%}"]
    else:
        cells += ["nothing is fitted", ""]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print_speed()
    if len(sys.argv) > 1:
        print_rows(Path(sys.argv[1]))
