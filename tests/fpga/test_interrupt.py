"""Interrupt moderation: exact times of what the waiting thread sees."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from card_networks import affine, conv

from accel.errors import InputError
from accel.fpga import Card, Driver, DriverSpec, Fault, Faults, Network, Rule, load_profile
from accel.fpga.clock import Clock
from accel.fpga.interrupt import Interrupt

US = 1_000_000


def woken(count: int, completions_us: list[int], rules: list[Rule] | None = None) -> list[int]:
    """Return when the thread wakes, in us: timer 10 us, latency 1 us."""
    env = Clock()
    times: list[int] = []
    interrupt = Interrupt(
        env, Faults(rules or []), count, 10e-6, 1e-6, lambda: times.append(env.now // US)
    )
    for time in completions_us:
        env.call_at(time * US, interrupt.completion)
    env.run()
    assert interrupt.sent == len(times)
    return times


@pytest.mark.parametrize(
    ("count", "completions_us", "expected"),
    [
        (1, [0, 3, 4], [1, 4, 5]),
        (2, [0, 3, 4], [4, 15]),  # two at once; the third waits for the timer
        (3, [0, 3, 4, 5], [5, 16]),  # the timer of the first round does not end the second
        (9, [0, 3, 30], [11, 41]),
    ],
)
def test_thread_wakes_by_count_or_timer(
    count: int, completions_us: list[int], expected: list[int]
) -> None:
    assert woken(count, completions_us) == expected


def test_lost_interrupt_leaves_the_next_one_alone() -> None:
    assert woken(2, [0, 1, 2, 3], [Rule(Fault.INTERRUPT_LOST, at=(0,))]) == [4]


def test_moderated_driver_takes_several_completions_with_one_interrupt() -> None:
    network = Network("n", [conv("c", 8, 16, 16)], {"x": ((1, 16), "u1")},
                      {"y": ((1, 16), "f4")}, affine)  # fmt: skip

    def interrupts(count: int) -> int:
        card = Card("alveo-u50")
        spec = replace(
            DriverSpec.from_profile(card.profile), interrupt_count=count, interrupt_timer=1e-4
        )
        driver = Driver(card, spec=spec)
        slot = driver.load(network)
        x = {"x": network.inputs[0].read(card.memory, card.memory.allocate(64).address)}
        for request in [driver.submit(slot, x) for _ in range(24)]:
            driver.wait(request)
            assert request.outcome == "card"
        return driver.interrupt.sent

    assert interrupts(1) == 24
    assert interrupts(6) == 4


@pytest.mark.parametrize(
    "change",
    [{"interrupt_count": 0}, {"interrupt_count": 193}, {"deadline": -1.0}, {"submit": math.nan},
     {"depth": 0}, {"attempts": 0}],
)  # fmt: skip
def test_impossible_driver_is_refused(change: dict[str, Any]) -> None:
    spec = DriverSpec.from_profile(load_profile("alveo-u50"))
    with pytest.raises(InputError, match=next(iter(change))):
        replace(spec, **change)
