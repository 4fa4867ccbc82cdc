"""The trace: what a viewer is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from chrome_trace import load

from accel.fpga import Card, Driver, Fault, Network, Rule, Trace
from accel.fpga.campaign import SPEC
from accel.fpga.network import Arrays


def test_arrow_of_a_request_passes_every_station_in_time(
    network: Callable[..., Network], batch: Callable[..., Arrays], tmp_path: Path
) -> None:
    card = Card("alveo-u50")
    driver = Driver(card)
    slot = driver.load(network(batch=2))
    requests = [driver.submit(slot, batch()) for _ in range(3)]
    for request in requests:
        driver.wait(request)
    card.trace.save(tmp_path / "trace.json")
    found = load((tmp_path / "trace.json").read_text())
    for number in range(3):
        engines = [f"engine {2 * number}", f"engine {2 * number + 1}"]
        stations = [track for _, track, _ in found.arrows[number]]
        assert stations == ["host thread 0", "dma in", *engines, "dma out"]
        start, end = found.requests[number]
        assert end - start == pytest.approx(requests[number].simulated_ns, abs=1)
    assert card.scheduler is not None
    (slice_,) = found.slices["engine 0"]
    assert slice_[2] == "affine"
    assert slice_[1] - slice_[0] == pytest.approx(card.scheduler.loaded[0].image_ps / 1000, abs=1)
    assert [name for _, _, name in found.slices["card"]] == ["configure"]


@pytest.mark.parametrize("kind", list(Fault), ids=lambda kind: kind.name.lower())
def test_trace_of_a_card_with_faults_is_one_a_viewer_takes(
    kind: Fault, network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    card = Card("alveo-u50", faults=[Rule(kind, rate=0.3, delay=2e-3)], seed=2)
    driver = Driver(card, spec=SPEC)
    slot = driver.load(network(batch=2))
    for request in [driver.submit(slot, batch()) for _ in range(8)]:
        driver.wait(request)
    found = load(card.trace.to_json())
    assert len(found.requests) == 8
    assert len(found.moments.get("faults", [])) == card.faults.fired[kind]
    steps = sum(driver.counts[name] for name in ("poll", "abort", "replay", "cpu"))
    assert len([m for m in found.moments.get("recovery", []) if "reset" not in m]) == steps


def test_work_a_reset_takes_back_is_cut_off() -> None:
    trace = Trace()
    trace.span("engine", "long", 100_000, 900_000)
    trace.span("engine", "later", 900_000, 999_000)
    trace.span("other", "stays", 100_000, 900_000)
    trace.flow(1, "engine", 900_000)
    trace.flow(1, "engine", 100_000)
    trace.flow(1, "other", 100_000)
    trace.cut("engine", 500_000)
    trace.span("engine", "next", 500_000, 600_000)
    found = load(trace.to_json())
    assert found.slices["engine"] == [(100, 500, "long"), (500, 600, "next")]
    assert found.slices["other"] == [(100, 900, "stays")]
    assert [track for _, track, _ in found.arrows[1]] == ["engine", "other"]


def test_neighbours_of_less_than_a_nanosecond_do_not_overlap() -> None:
    trace = Trace()
    for i in range(50):
        trace.span("track", f"n{i}", 700 * i, 700 * (i + 1))
    slices = load(trace.to_json()).slices["track"]
    assert slices[0][0] == 0
    assert slices[-1][1] == 35


def test_trace_stops_at_its_limit_and_counts_the_rest() -> None:
    trace = Trace(limit=3)
    for i in range(5):
        trace.moment("track", f"mark {i}", i)
    assert trace.timeline() == [("mark 0", 0), ("mark 1", 1), ("mark 2", 2)]
    assert trace.dropped == 2


def test_disabled_trace_keeps_nothing() -> None:
    card = Card("alveo-u200", trace=False)
    queue = card.queue()
    a, b = card.host.allocate(8), card.memory.allocate(8)
    queue.post("h2c", a.address, b.address, 8)
    queue.doorbell()
    card.run()
    assert queue.completions()
    assert card.trace.timeline() == []
    events = json.loads(card.trace.to_json())["traceEvents"]
    assert [event["name"] for event in events] == ["process_name"]
