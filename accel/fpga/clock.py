"""Simulated time: integer picoseconds, and the FIFO server every timed component is made of.

Nothing here reads the wall clock, so a run with the same inputs and the same seed gives the
same events at the same picosecond.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Protocol, cast

import simpy
from simpy.core import EmptySchedule
from simpy.events import NORMAL, Event

PS_PER_S = 10**12
PS_PER_NS = 1_000

Action = Callable[[], object]
"""Called when its time has come."""


class Recorder(Protocol):
    """Is told of every piece of work, and when a reset takes some of it back."""

    def span(self, track: str, name: str, start_ps: int, end_ps: int) -> None: ...
    def cut(self, track: str, time_ps: int) -> None: ...


def seconds_to_ps(seconds: float) -> int:
    """Return `seconds` as the nearest integer number of picoseconds."""
    return round(seconds * PS_PER_S)


def transfer_ps(n_bytes: float, bytes_per_s: float) -> int:
    """Return the picoseconds `n_bytes` take at `bytes_per_s`, rounded up."""
    return math.ceil(n_bytes * PS_PER_S / bytes_per_s)


def cycles_to_ps(cycles: float, hertz: float) -> int:
    """Return the picoseconds `cycles` clock cycles take at `hertz`, rounded up."""
    return math.ceil(cycles * PS_PER_S / hertz)


class Clock(simpy.Environment):
    """SimPy's event loop, in whole picoseconds, for plain functions beside SimPy's events.

    A function costs a fraction of a `simpy.Timeout`, which nobody here would wait for.

    Attributes
    ----------
    now : picoseconds since the start; not SimPy's property, which costs a call
    """

    now: int = 0

    def __init__(self) -> None:
        super().__init__(initial_time=0)
        self._heap = cast("list[tuple[int, int, int, Any]]", self._queue)

    def call_at(self, time_ps: int, function: Action) -> None:
        """Call `function` when simulated time reaches `time_ps`, or now if that has passed."""
        now = self.now
        heappush(self._heap, (time_ps if time_ps > now else now, NORMAL, next(self._eid), function))

    def step(self) -> None:
        """Take the next function or event. Raises `simpy.core.EmptySchedule` if there is none."""
        if not self.step_by(math.inf):
            raise EmptySchedule

    def step_by(self, limit_ps: float) -> bool:
        """Take the next function or event if it is due by `limit_ps`; tell whether one was."""
        heap = self._heap
        if not heap or (time_ps := heap[0][0]) > limit_ps:
            return False
        self.now = self._now = time_ps
        if isinstance(what := heap[0][3], Event):
            super().step()
        else:
            heappop(heap)
            what()
        return True


class Server:
    """A resource that serves one piece of work at a time, first come, first served.

    Service times are known when the work arrives, so the server needs no queue: the moment it
    becomes free is enough, and one piece of work costs one simulated event at most.

    Parameters
    ----------
    env : Clock
        The event loop.
    name : str
        The track the work appears on in a trace.
    recorder : Recorder, optional
        Is told of each piece of work that has a name.
    """

    def __init__(self, env: Clock, name: str, recorder: Recorder | None = None) -> None:
        self.env = env
        self.name = name
        self.free_at_ps = 0
        self.busy_ps = 0
        self.served = 0
        self._recorder = recorder

    def reserve(self, duration_ps: int, what: str = "", earliest_ps: int = 0) -> int:
        """Queue one piece of work and return the picosecond at which it ends."""
        start = self.env.now
        if start < self.free_at_ps:
            start = self.free_at_ps
        if start < earliest_ps:
            start = earliest_ps
        end = start + duration_ps
        self.free_at_ps = end
        self.busy_ps += duration_ps
        self.served += 1
        if self._recorder is not None and what:
            self._recorder.span(self.name, what, start, end)
        return end

    def clear(self) -> None:
        """Forget queued work, as a reset does; time not yet spent is given back."""
        now = self.env.now
        if self.free_at_ps > now:
            self.busy_ps -= min(self.busy_ps, self.free_at_ps - now)
            self.free_at_ps = now
            if self._recorder is not None:
                self._recorder.cut(self.name, now)
