"""Faults seen on real cards, injected at chosen opportunities or at a seeded rate.

A component asks `faults.fires(kind)` at every opportunity; the answer depends on the rules, on the
seed and on how many opportunities of that kind came before, never on other kinds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from accel.errors import InputError


class Fault(Enum):
    """What can go wrong, and where the opportunity lies."""

    DESCRIPTOR_ERROR = "F1 descriptor error"
    COMPLETION_LOST = "F2 completion lost"
    INTERRUPT_LOST = "F3 interrupt lost"
    COMPLETION_DUPLICATED = "F4 completion duplicated"
    COMPLETION_REORDERED = "F5 completion out of order"
    COMPLETION_STALE = "F6 completion from before a reset"
    COMPLETION_LATE = "F7 completion after the deadline"
    DOORBELL_OVERRUN = "F8 doorbell past the ring"
    DOORBELL_LOST = "F9 doorbell dropped"
    ECC_CORRECTED = "F10 memory error, corrected"
    ECC_UNCORRECTED = "F10 memory error, detected"
    PAYLOAD_FLIPPED = "F10 silent bit flip on the link"
    LINK_TIMEOUT = "F11 PCIe completion timeout"
    LINK_FATAL = "F11 fatal link error"
    HANG = "F12 engine hang"
    REMOVAL = "F13 surprise removal"
    FIREWALL = "F14 firewall trip"
    THROTTLE = "F15 power throttle"
    PACKET_LOST = "F16 packet dropped"
    PACKET_REORDERED = "F16 packet out of order"
    PACKET_DUPLICATED = "F16 packet duplicated"
    PACKET_TRUNCATED = "F16 packet truncated"
    SLOW_HOST = "F17 slow host memory"
    LOAD_FAILURE = "F18 reconfiguration failure"


DELAYS = {
    Fault.COMPLETION_REORDERED: 5e-5,
    Fault.COMPLETION_STALE: 6.0,  # beyond the deadlines, so that it meets the next generation
    Fault.COMPLETION_LATE: 3.0,
    Fault.REMOVAL: 0.5,
    Fault.PACKET_REORDERED: 1e-5,
    Fault.SLOW_HOST: 1e-4,
}
"""Seconds that go with a fault unless its rule says otherwise."""


@dataclass(frozen=True)
class Rule:
    """When a fault fires: at the opportunities numbered in `at` (from 0), at a `rate`, or at the
    first opportunity after each of the times in `after`, in simulated seconds since the card is
    ready.

    `delay` is in seconds, for faults that have one: how late a completion is, how long a card is
    gone, how much longer a read takes; None takes that of `DELAYS`.
    """

    kind: Fault
    at: tuple[int, ...] = ()
    rate: float = 0.0
    delay: float | None = None
    after: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise InputError(f"{self.kind.name}: rate is {self.rate}; expected 0 to 1")
        for name, value in (("delay", self.delay or 0.0), *(("after", t) for t in self.after)):
            if not 0 <= value < math.inf:
                raise InputError(f"{self.kind.name}: {name} is {value} s; expected 0 or more")

    @property
    def seconds(self) -> float:
        """The delay of this rule."""
        return DELAYS.get(self.kind, 0.0) if self.delay is None else self.delay


class Faults:
    """The rules of one run, the seed, and a count of what fired.

    `armed` tells whether there is any rule: what asks for several faults may skip them all.
    `clock` gives the simulated seconds since the card is ready; `fired_at` is told of each strike.

    Raises InputError when two rules name the same fault, for anything but a `Rule`, and for a
    negative seed.
    """

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        seed: int = 0,
        clock: Callable[[], float] = lambda: 0.0,
        fired_at: Callable[[Fault], None] = lambda _: None,
    ) -> None:
        if seed < 0:
            raise InputError(f"seed is {seed}; expected 0 or more")
        self.seed = seed
        self.fired: Counter[Fault] = Counter()
        self._seen: Counter[Fault] = Counter()
        self._rules: dict[Fault, Rule] = {}
        for rule in rules:
            if not isinstance(rule, Rule):
                raise InputError(f"a fault is given by accel.fpga.Rule, not by {rule!r}")
            if rule.kind in self._rules:
                raise InputError(f"two rules for {rule.kind.name}; merge them into one")
            self._rules[rule.kind] = rule
        self.armed = bool(self._rules)
        order = {kind: index for index, kind in enumerate(Fault)}
        self._clock, self._fired_at = clock, fired_at
        self._times = {k: sorted(r.after, reverse=True) for k, r in self._rules.items()}
        self._rngs = {k: np.random.default_rng((seed, order[k])) for k in self._rules}

    def fires(self, kind: Fault) -> bool:
        """Tell whether `kind` happens at this opportunity, and count the opportunity."""
        if not self.armed or (rule := self._rules.get(kind)) is None:
            return False
        index = self._seen[kind]
        self._seen[kind] += 1
        hit = index in rule.at
        if rule.rate > 0 and self._rngs[kind].random() < rule.rate:
            hit = True
        times = self._times[kind]
        if times and self._clock() >= times[-1]:
            times.pop()
            hit = True
        if hit:
            self.fired[kind] += 1
            self._fired_at(kind)
        return hit

    def delay(self, kind: Fault) -> float:
        """Return the seconds that go with `kind`, 0 without a rule."""
        rule = self._rules.get(kind)
        return rule.seconds if rule else 0.0

    def pick(self, kind: Fault, n: int) -> int:
        """Return a seeded choice in 0 … n-1, for where inside something a fault strikes."""
        return int(self._rngs[kind].integers(n))
