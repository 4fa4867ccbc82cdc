"""What a plan executes: steps that know which forms they touch before these have memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accel.forms import Form

Run = Callable[[], object]


@dataclass(frozen=True)
class Step:
    """One kernel call, copy or subgraph.

    Attributes
    ----------
    node : name of the call that it belongs to.
    touches : forms that it reads or writes.
    bind : makes what a run executes, once the forms have memory.
    own : whether that is an operator of our kernels.
    """

    node: str
    touches: tuple[Form, ...]
    bind: Callable[[], Run]
    own: bool
