"""A record of what every component did and when, and its Chrome/Perfetto form.

Open the written file at https://ui.perfetto.dev or chrome://tracing. Source of the format: the
"Trace Event Format" document of the Chromium project.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.fpga.clock import PS_PER_NS, Span


@dataclass(frozen=True)
class Mark:
    """One piece of work on a track; a moment has `end_ps == start_ps`."""

    track: str
    name: str
    start_ps: int
    end_ps: int


class Trace:
    """Collects marks, up to `limit`; the number left out is in `dropped`.

    Parameters
    ----------
    enabled : bool
        When false nothing is kept.
    limit : int
        Most marks kept, so that a long run cannot fill memory.
    """

    def __init__(self, enabled: bool = True, limit: int = 200_000) -> None:
        self.enabled = enabled
        self.limit = limit
        self.dropped = 0
        self.marks: list[Mark] = []
        self._flows: list[tuple[int, str, int]] = []

    @property
    def recorder(self) -> Span | None:
        """What a component reports its work to; None when nothing is kept."""
        return self.span if self.enabled else None

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
        """Record that `request` passed through `track`; arrows join its passages."""
        if self.enabled and len(self._flows) < self.limit:
            self._flows.append((request, track, time_ps))

    def timeline(self) -> list[tuple[str, int]]:
        """Return (name, start in ps) of all marks, by time."""
        return sorted(((m.name, m.start_ps) for m in self.marks), key=lambda pair: pair[1])

    def to_json(self) -> str:
        """Return the trace as Chrome JSON; times in microseconds."""
        tracks = {name: index for index, name in enumerate(self._tracks())}
        events = [_thread(name, tid) for name, tid in tracks.items()]
        events += [_event(mark, tracks[mark.track]) for mark in self.marks]
        events += self._arrows(tracks)
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}, sort_keys=True)

    def save(self, path: str | Path) -> None:
        """Write the Chrome JSON to `path`."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def _tracks(self) -> list[str]:
        used = [m.track for m in self.marks] + [track for _, track, _ in self._flows]
        return list(dict.fromkeys(used))

    def _arrows(self, tracks: dict[str, int]) -> list[dict[str, Any]]:
        arrows: list[dict[str, Any]] = []
        last = {request: index for index, (request, _, _) in enumerate(self._flows)}
        started: set[int] = set()
        for index, (request, track, time_ps) in enumerate(self._flows):
            phase = "f" if last[request] == index else "t" if request in started else "s"
            started.add(request)
            arrows.append(
                {"ph": phase, "id": request, "name": "request", "cat": "flow", "bp": "e",
                 "pid": 1, "tid": tracks[track], "ts": _us(time_ps)}
            )  # fmt: skip
        return arrows


def _us(time_ps: int) -> float:
    return time_ps / (1000 * PS_PER_NS)


def _thread(name: str, tid: int) -> dict[str, Any]:
    return {"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": name}}


def _event(mark: Mark, tid: int) -> dict[str, Any]:
    event: dict[str, Any] = {"name": mark.name, "pid": 1, "tid": tid, "ts": _us(mark.start_ps)}
    if mark.end_ps == mark.start_ps:
        return event | {"ph": "i", "s": "t"}
    return event | {"ph": "X", "dur": _us(mark.end_ps - mark.start_ps)}
