"""A stage of a plan: steps that are bound to memory and run one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from accel import kernels
from accel.draft import Draft
from accel.forms import Form
from accel.steps import Run

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Life:
    """A buffer of a plan: where it lies, and between which steps; -1 is before the first.

    Attributes
    ----------
    node : who writes it first; the name of the input for inputs.
    offset, nbytes : in the arena.
    """

    node: str
    first: int
    last: int
    offset: int
    nbytes: int


class Stage:
    """The steps of a draft from one on, with the memory that they need.

    Parameters
    ----------
    first : number of the first step; the values that earlier ones make are given.
    kept : forms that are read after the last step.

    Attributes
    ----------
    runs : what the steps execute; chains : the same, operators that follow each other at once.
    """

    def __init__(self, draft: Draft, kept: Iterable[Form], first: int = 0) -> None:
        self.draft, self.first = draft, first
        self.steps = draft.steps[first:]
        self.arena = draft.arena
        self._place(kept)
        self.runs: list[Run] = [step.bind() for step in self.steps]
        self.chains = _chains(self.runs)

    def take(self, inputs: dict[str, Array]) -> None:
        """Copy the inputs that the steps read."""
        for name, array in inputs.items():
            form = self.draft.plain[name]
            if is_used(form):
                np.copyto(form.array, array)
        self.draft.loose.clear()

    def run(self) -> None:
        """Execute all steps once."""
        for run in self.chains:
            run()

    def lives(self, offset: int) -> list[Life]:
        """Every buffer that is used; `offset`: where the arena of the stage begins in the plan."""
        steps = self.draft.steps
        return [
            Life(steps[max(b.first, 0)].node, b.first, b.last, offset + b.offset, b.nbytes)
            for b in self.arena.buffers
            if b.first is not None and steps
        ]

    def _place(self, kept: Iterable[Form]) -> None:
        """Inputs are there before the first step; so is what earlier steps make for these."""
        steps, end = self.draft.steps, len(self.draft.steps)
        for i, step in enumerate(self.steps, self.first):
            for form in step.touches:
                _use(form, i)
        for form in kept:
            _use(form, end)
        given = [form for step in steps[: self.first] for form in step.touches]
        inputs = [self.draft.plain[name] for name in self.draft.schedule.inputs]
        for form in [*given, *inputs]:
            if is_used(form) or not self.first:
                _use(form, self.first - 1)
        self.arena.place()


def is_used(form: Form) -> bool:
    """Whether a step that is bound reads or writes it."""
    return form.buffer is not None and form.buffer.first is not None


def _use(form: Form, step: int) -> None:
    if form.buffer is not None:
        form.buffer.use(step)


def _chains(runs: list[Run]) -> list[Run]:
    found: list[Run] = []
    for own, group in groupby(runs, lambda run: isinstance(run, kernels.Operator)):
        together = [*group]
        found += [kernels.Chain(together)] if own else together
    return found
