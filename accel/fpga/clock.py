"""Simulated time: integer picoseconds, and the FIFO server every timed component is made of.

Nothing here reads the wall clock, so a run with the same inputs and the same seed gives the
same events at the same picosecond.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import simpy

PS_PER_S = 10**12
PS_PER_NS = 1_000

Action = Callable[[object], None]
"""Called when its time has come, with the event."""


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


class Server:
    """A resource that serves one piece of work at a time, first come, first served.

    Service times are known when the work arrives, so the server needs no queue: the moment it
    becomes free is enough, and one piece of work costs one simulated event at most.

    Parameters
    ----------
    env : simpy.Environment
        The event loop; `env.now` is in picoseconds.
    name : str
        The track the work appears on in a trace.
    recorder : Recorder, optional
        Is told of each piece of work that has a name.
    """

    def __init__(self, env: simpy.Environment, name: str, recorder: Recorder | None = None) -> None:
        self.env = env
        self.name = name
        self.free_at_ps = 0
        self.busy_ps = 0
        self.served = 0
        self._recorder = recorder

    def reserve(self, duration_ps: int, what: str = "", earliest_ps: int = 0) -> int:
        """Queue one piece of work and return the picosecond at which it ends."""
        start: int = self.env.now  # type: ignore[assignment]  # whole picoseconds only
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
        now = int(self.env.now)
        if self.free_at_ps > now:
            self.busy_ps -= min(self.busy_ps, self.free_at_ps - now)
            self.free_at_ps = now
            if self._recorder is not None:
                self._recorder.cut(self.name, now)


class _Call(simpy.Event):
    """An event that calls one function: a `simpy.Timeout` without what nobody waits for."""

    def __init__(self, env: simpy.Environment, delay: int, function: Action) -> None:
        self.env = env
        self.callbacks = [function]
        self._value = None
        self._ok = True
        env.schedule(self, delay=delay)


def call_at(env: simpy.Environment, time_ps: int, function: Action) -> None:
    """Call `function` when simulated time reaches `time_ps`, or now if that has passed.

    It is given the event, which hardly anyone wants; that spares a call for each event.
    """
    delay: int = time_ps - env.now  # type: ignore[assignment]  # whole picoseconds only
    _Call(env, delay if delay > 0 else 0, function)
