"""Loads a trace as a viewer does, and fails where a viewer would drop something.

The rules are those of the "Trace Event Format" document, as Perfetto's JSON importer applies them:
complete events of one thread are nested or apart; an arrow's end lies in an open one; async events
come in pairs; times are whole nanoseconds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

NEEDED = {
    "M": {"name", "pid", "tid", "args"},
    "X": {"name", "pid", "tid", "ts", "dur"},
    "i": {"name", "pid", "tid", "ts", "s"},
    "s": {"id", "name", "cat", "pid", "tid", "ts"},
    "t": {"id", "name", "cat", "pid", "tid", "ts"},
    "f": {"id", "name", "cat", "pid", "tid", "ts", "bp"},
    "b": {"id", "name", "cat", "pid", "tid", "ts"},
    "e": {"id", "name", "cat", "pid", "tid", "ts"},
}


@dataclass
class Loaded:
    """Slices by track as (start, end, name) in ns, arrows by id as (ts, track, phase)."""

    slices: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    arrows: dict[int, list[tuple[int, str, str]]] = field(default_factory=dict)
    requests: dict[int, tuple[int, int]] = field(default_factory=dict)
    moments: dict[str, list[str]] = field(default_factory=dict)


def load(text: str) -> Loaded:
    """Check every rule; raise AssertionError naming the event that breaks one."""
    document = json.loads(text)
    assert set(document) >= {"traceEvents"}
    events = document["traceEvents"]
    names: dict[int, str] = {}
    slices, moments = defaultdict(list), defaultdict(list)
    arrows: defaultdict[int, list[tuple[int, str, str]]] = defaultdict(list)
    open_requests: dict[int, int] = {}
    requests = {}
    for event in events:
        assert event["ph"] in NEEDED, event
        assert NEEDED[event["ph"]] <= set(event), event
        if event["ph"] == "M":
            if event["name"] == "thread_name":
                names[event["tid"]] = event["args"]["name"]
            continue
        start = nanoseconds(event["ts"])
        if event["ph"] == "X":
            end = start + nanoseconds(event["dur"])
            slices[names[event["tid"]]].append((start, end, event["name"]))
        elif event["ph"] == "i":
            moments[names[event["tid"]]].append(event["name"])
        elif event["ph"] == "b":
            open_requests[event["id"]] = start
        elif event["ph"] == "e":
            begin = open_requests.pop(event["id"])
            assert begin <= start, event
            requests[event["id"]] = (begin, start)
        else:
            arrows[event["id"]].append((start, names[event["tid"]], event["ph"]))
    assert not open_requests
    for track, found in slices.items():
        check_nesting(track, found)
    for arrow in arrows.values():
        check_arrow(arrow, slices)
    return Loaded(dict(slices), dict(arrows), requests, dict(moments))


def nanoseconds(microseconds: Any) -> int:
    """Return a time as a viewer stores it; it must not have to round."""
    whole = round(microseconds * 1000)
    assert abs(whole - microseconds * 1000) < 1e-3, microseconds
    assert whole >= 0, microseconds
    return whole


def check_nesting(track: str, slices: list[tuple[int, int, str]]) -> None:
    """Fail where two slices of a track overlap and neither contains the other."""
    open_until: list[int] = []
    for start, end, name in sorted(slices, key=lambda s: (s[0], -s[1])):
        while open_until and open_until[-1] <= start:
            open_until.pop()
        assert not open_until or end <= open_until[-1], f"{track}: {name} at {start} ns"
        if end > start:
            open_until.append(end)


def check_arrow(
    arrow: list[tuple[int, str, str]], slices: dict[str, list[tuple[int, int, str]]]
) -> None:
    """Fail unless an arrow begins, ends, runs forward, and touches slices at every station."""
    phases = "".join(phase for _, _, phase in arrow)
    assert phases == "s" + "t" * (len(arrow) - 2) + "f", phases
    assert [ts for ts, _, _ in arrow] == sorted(ts for ts, _, _ in arrow)
    for ts, track, _ in arrow:
        assert any(start <= ts <= end for start, end, _ in slices[track]), (track, ts)
