"""A batch on its way through the driver, and what the driver's own steps cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from accel.errors import AccelError, InputError
from accel.fpga.clock import PS_PER_NS
from accel.fpga.network import Arrays
from accel.fpga.profile import Profile
from accel.fpga.slots import Slot

MAX_INTERRUPT_COUNT = 192
"""Of the thresholds that Xilinx QDMA offers."""


@dataclass(frozen=True)
class DriverSpec:
    """Costs and limits of the driver; times in seconds.

    `submit` is the host's work per request, `notify` the time from a completion entry to the
    waiting thread. With `interrupt_count` > 1 the card waits for that many completions or for
    `interrupt_timer`. `depth` requests may be under way.
    """

    submit: float
    notify: float
    interrupt_count: int
    interrupt_timer: float
    depth: int
    deadline: float
    reset_time: float
    attempts: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.interrupt_count <= MAX_INTERRUPT_COUNT:
            raise InputError(
                f"interrupt_count is {self.interrupt_count}; expected 1 to {MAX_INTERRUPT_COUNT}"
            )
        for name in ("submit", "notify", "interrupt_timer", "deadline", "reset_time"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"{name} is {value} s; expected 0 or more")
        if self.depth < 1 or self.attempts < 1:
            raise InputError(
                f"depth is {self.depth}, attempts {self.attempts}; expected at least 1 of each"
            )

    @classmethod
    def from_profile(cls, profile: Profile) -> DriverSpec:
        """Take the driver's numbers from a card profile."""
        value = profile.value
        return cls(
            submit=value("driver.submit"),
            notify=value("driver.notify"),
            interrupt_count=int(value("driver.interrupt_count")),
            interrupt_timer=value("driver.interrupt_timer"),
            depth=int(value("driver.depth")),
            deadline=value("driver.deadline"),
            reset_time=value("driver.reset_time"),
        )


@dataclass(slots=True)
class Request:
    """One batch under way.

    Attributes
    ----------
    outcome : "card", "cpu" or "error" once it has ended, else ""
    steps : recovery steps taken for it, in order
    """

    number: int
    inputs: Arrays
    submitted_ps: int
    program: int
    cid: int | None = None
    slot: Slot | None = None
    deadline_ps: int = 0
    attempts: int = 0
    reminded: bool = False
    done_ps: int = 0
    outcome: Literal["", "card", "cpu", "error"] = ""
    outputs: Arrays = field(default_factory=dict)
    error: AccelError | None = None
    steps: list[str] = field(default_factory=list)

    @property
    def simulated_ns(self) -> int:
        """Nanoseconds from submission to the end."""
        return (self.done_ps - self.submitted_ps) // PS_PER_NS
