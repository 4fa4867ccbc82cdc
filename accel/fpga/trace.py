"""A record of what every component did and when, and its Chrome/Perfetto form.

Open the written file at https://ui.perfetto.dev or chrome://tracing. Source of the format: the
"Trace Event Format" document of the Chromium project.

Viewers count in nanoseconds: begin and end of every piece of work are rounded down to them, so that
neighbours still meet and never overlap. The exact picoseconds are in its arguments.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accel.fpga.clock import PS_PER_NS, Recorder


@dataclass(frozen=True)
class Mark:
    """One piece of work on a track; a moment has `end_ps == start_ps`."""

    track: str
    name: str
    start_ps: int
    end_ps: int


@dataclass(frozen=True)
class Passage:
    """A request passed through a piece of work that began on `track` at `time_ps`."""

    request: int
    track: str
    time_ps: int


class Trace:
    """Collects marks, up to `limit`; the number left out is in `dropped`.

    Parameters
    ----------
    enabled : bool
        When false nothing is kept.
    limit : int
        Most marks kept, so that a long run cannot fill memory.
    title : str
        Of the card, for the viewer.
    """

    def __init__(self, enabled: bool = True, limit: int = 200_000, title: str = "card") -> None:
        self.enabled = enabled
        self.limit = limit
        self.title = title
        self.dropped = 0
        self.marks: list[Mark] = []
        self.requests: list[Mark] = []
        self._passages: list[Passage] = []

    @property
    def recorder(self) -> Recorder | None:
        """What a component reports its work to; None when nothing is kept."""
        return self if self.enabled else None

    def span(self, track: str, name: str, start_ps: int, end_ps: int) -> None:
        """Record work from `start_ps` to `end_ps`."""
        if not self.enabled:
            return
        if len(self.marks) >= self.limit:
            self.dropped += 1
            return
        self.marks.append(Mark(track, name, start_ps, end_ps))

    def moment(self, track: str, name: str, time_ps: int) -> None:
        """Record something that takes no time."""
        self.span(track, name, time_ps, time_ps)

    def flow(self, request: int, track: str, time_ps: int) -> None:
        """Record that `request` passed through the work that began then; arrows join these."""
        if self.enabled and len(self._passages) < self.limit:
            self._passages.append(Passage(request, track, time_ps))

    def request(self, name: str, outcome: str, start_ps: int, end_ps: int) -> None:
        """Record a request as a whole, from its submission to its end."""
        if self.enabled and len(self.requests) < self.limit:
            self.requests.append(Mark(outcome, name, start_ps, end_ps))

    def cut(self, track: str, time_ps: int) -> None:
        """Take back what was to happen on `track` from `time_ps` on, as a reset does."""
        self.marks = [
            replace(m, end_ps=min(m.end_ps, time_ps)) if m.track == track else m
            for m in self.marks
            if m.track != track or m.start_ps <= time_ps
        ]
        self._passages = [p for p in self._passages if p.track != track or p.time_ps < time_ps]

    def timeline(self) -> list[tuple[str, int]]:
        """Return (name, start in ps) of all marks, by time."""
        return sorted(((m.name, m.start_ps) for m in self.marks), key=lambda pair: pair[1])

    def tracks(self) -> list[str]:
        """Return the tracks in order of their first mark."""
        return list(dict.fromkeys(m.track for m in self.marks))

    def to_json(self) -> str:
        """Return the trace as Chrome JSON; times in microseconds."""
        tracks = {name: index for index, name in enumerate(self.tracks(), 1)}
        events = [_metadata("process_name", 0, self.title)]
        events += [_metadata("thread_name", tid, name) for name, tid in tracks.items()]
        events += [_event(mark, tracks[mark.track]) for mark in self.marks]
        events += self._arrows(tracks)
        for number, mark in enumerate(self.requests):
            events += _lifetime(number, mark)
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}, sort_keys=True)

    def save(self, path: str | Path) -> None:
        """Write the Chrome JSON to `path`."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def _arrows(self, tracks: dict[str, int]) -> list[dict[str, Any]]:
        """Arrows through the passages of each request; what was dropped ends no arrow."""
        kept = {(m.track, m.start_ps) for m in self.marks}
        by_request: defaultdict[int, list[Passage]] = defaultdict(list)
        for passage in self._passages:
            if (passage.track, passage.time_ps) in kept:
                by_request[passage.request].append(passage)
        arrows = []
        for request, passages in by_request.items():
            passages.sort(key=lambda passage: passage.time_ps)
            last = len(passages) - 1
            for index, passage in enumerate(passages if last else []):
                phase = "f" if index == last else "t" if index else "s"
                arrows.append(
                    {"ph": phase, "id": request, "name": "request", "cat": "flow", "bp": "e",
                     "pid": 1, "tid": tracks[passage.track], "ts": _us(passage.time_ps)}
                )  # fmt: skip
        return arrows


def _us(time_ps: int) -> float:
    """Microseconds of a time rounded down to nanoseconds."""
    return (time_ps // PS_PER_NS) / 1000


def _metadata(kind: str, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": 1, "tid": tid, "args": {"name": name}}


def _event(mark: Mark, tid: int) -> dict[str, Any]:
    exact = {"start_ps": mark.start_ps, "duration_ps": mark.end_ps - mark.start_ps}
    event: dict[str, Any] = {
        "name": mark.name, "pid": 1, "tid": tid, "ts": _us(mark.start_ps), "args": exact,
    }  # fmt: skip
    if mark.end_ps == mark.start_ps:
        return event | {"ph": "i", "s": "t"}
    nanoseconds = mark.end_ps // PS_PER_NS - mark.start_ps // PS_PER_NS
    return event | {"ph": "X", "dur": nanoseconds / 1000}


def _lifetime(number: int, mark: Mark) -> list[dict[str, Any]]:
    """A request from submission to end, beside the tracks: requests overlap."""
    event = {"name": mark.name, "cat": "request", "id": number, "pid": 1, "tid": 0}
    begin = event | {"ph": "b", "ts": _us(mark.start_ps), "args": {"outcome": mark.track}}
    return [begin, event | {"ph": "e", "ts": _us(mark.end_ps)}]
