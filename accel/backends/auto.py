"""The `auto` device: times the installed CPU devices on the model and takes the fastest. Never
the simulated card. The only place where a device is chosen for the user; it says which."""

from __future__ import annotations

import time
from dataclasses import replace

from accel.device import Device, device_info
from accel.device import device as open_by_name
from accel.errors import AccelError, UnsupportedError
from accel.explain import Explanation
from accel.order import Order
from accel.program import Arrays, Program

CANDIDATES = ("cpu", "mkl", "openvino", "onnxruntime")
BUDGET_S = 1.0


def availability() -> tuple[bool, str]:
    """Always there."""
    return True, f"the fastest of {', '.join(_installed())} on the model at hand"


def open_device(index: int) -> Device:
    """Open the device."""
    return Device("auto", AutoProgram)


class AutoProgram(Program):
    """The chosen program, with what the choice rests on.

    Attributes
    ----------
    chosen : name of the device taken.
    seconds : best time of one batch on every candidate, in s.
    """

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        programs: dict[str, Program] = {}
        self.refused: dict[str, str] = {}
        for name in _installed():
            try:
                programs[name] = _compiled(name, order)
            except AccelError as err:
                self.refused[name] = str(err)
        if not programs:
            reasons = "; ".join(f"{n}: {r}" for n, r in self.refused.items())
            raise UnsupportedError(f"model {order.model.name!r}: no CPU device runs it: {reasons}")
        self.seconds = {n: _time(p, BUDGET_S / len(programs)) for n, p in programs.items()}
        self.chosen = min(self.seconds, key=lambda n: self.seconds[n])
        self._taken = programs[self.chosen]

    @property
    def label(self) -> str:
        return f"auto ({self.chosen})"

    def _execute(self, inputs: Arrays) -> Arrays:
        return self._taken._execute(inputs)

    def explain(self) -> Explanation:
        return self._told(self._taken.explain())

    def _profile(self, inputs: Arrays, repeats: int) -> Explanation:
        return self._told(self._taken._profile(inputs, repeats))

    def _told(self, inner: Explanation) -> Explanation:
        timed = ", ".join(f"{n} {1e3 * s:.2f} ms" for n, s in sorted(
            self.seconds.items(), key=lambda item: item[1]))  # fmt: skip
        notes = [f"auto took {self.chosen}; one batch: {timed}"]
        notes += [f"auto left out {n}: {reason}" for n, reason in self.refused.items()]
        return replace(inner, device=self.label, notes=(*notes, *inner.notes))


def _compiled(name: str, order: Order) -> Program:
    device = open_by_name(name)
    return device.make(replace(order, device=device))


def _installed() -> list[str]:
    return [name for name in CANDIDATES if device_info(name).available]


def _time(program: Program, budget_s: float) -> float:
    """Best time of one batch within the budget; the first run warms up if time allows."""
    inputs = program.noise()
    end = time.perf_counter() + budget_s
    best = float("inf")
    while True:
        start = time.perf_counter()
        program._execute(inputs)
        now = time.perf_counter()
        best = min(best, now - start)
        if now + best > end:
            return best
