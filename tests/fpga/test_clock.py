"""The event loop: plain functions beside SimPy's events, in order of time."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from simpy import Event
from simpy.core import EmptySchedule

from accel.fpga.clock import Clock


def test_functions_run_in_order_of_time_then_of_posting() -> None:
    clock, seen = Clock(), list[tuple[str, int]]()
    for name, time_ps in (("c", 7), ("a", 5), ("b", 5)):
        clock.call_at(time_ps, lambda name=name: seen.append((name, clock.now)))  # type: ignore[misc]
    clock.run()
    assert seen == [("a", 5), ("b", 5), ("c", 7)]


def test_time_that_has_passed_means_now() -> None:
    clock, seen = Clock(), list[int]()
    clock.call_at(9, lambda: clock.call_at(3, lambda: seen.append(clock.now)))
    clock.run()
    assert seen == [9]


def test_step_by_leaves_what_is_due_later() -> None:
    clock, seen = Clock(), list[int]()
    clock.call_at(10, lambda: seen.append(clock.now))
    assert not clock.step_by(9)
    assert (clock.now, seen) == (0, [])
    assert clock.step_by(10)
    assert (clock.now, seen) == (10, [10])
    assert not clock.step_by(10**18)
    with pytest.raises(EmptySchedule):
        clock.step()


def test_simpy_processes_share_the_clock() -> None:
    clock, seen = Clock(), list[tuple[str, int]]()

    def process() -> Generator[Event, None, None]:
        for _ in range(2):
            yield clock.timeout(4)
            seen.append(("process", clock.now))

    clock.process(process())
    clock.call_at(6, lambda: seen.append(("function", clock.now)))
    clock.run(until=8)  # what is due at that moment waits for the next run
    assert (clock.now, seen) == (8, [("process", 4), ("function", 6)])
    clock.run()
    assert seen[-1] == ("process", 8)
