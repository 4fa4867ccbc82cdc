"""The trace: what a viewer is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from accel.fpga import Card, Driver, Network, Trace
from accel.fpga.network import Arrays


def test_arrow_of_a_request_passes_every_station_in_time(
    network: Callable[..., Network], batch: Callable[..., Arrays], tmp_path: Path
) -> None:
    card = Card("alveo-u50")
    driver = Driver(card)
    slot = driver.load(network(batch=2))
    for job in [driver.submit(slot, batch()) for _ in range(3)]:
        driver.wait(job)
    card.trace.save(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    for request in range(3):
        arrow = [e for e in events if e["ph"] in "stf" and e["id"] == request]
        stations = [names[e["tid"]] for e in arrow]
        engines = [f"engine {2 * request}", f"engine {2 * request + 1}"]
        assert stations == ["host thread", "dma in", *engines, "dma out", "host thread"]
        assert [e["ph"] for e in arrow] == ["s", "t", "t", "t", "t", "f"]
        times = [e["ts"] for e in arrow]
        assert times == sorted(times)
    spans = [e for e in events if e["ph"] == "X" and names[e["tid"]] == "engine 0"]
    assert [(s["name"], s["dur"] * 1e6) for s in spans] == [
        ("affine", card.scheduler.loaded[0].image_ps)  # type: ignore[union-attr]
    ]


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
    assert json.loads(card.trace.to_json())["traceEvents"] == []
