"""Give windows of which most is above 0 more levels there, and fewer below.

Behind a LeakyReLU, hard-swish, SiLU or GELU little is below 0. Zero points from 40 to 64 serve such
values alike: on a detector of LeakyReLUs the rounding of activations then makes half the error of
the heads, in power, that signed levels make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accel.schedule import JoinCall, NearestCall, OwnCall, PoolCall, ProductCall

ZERO_POINT = 56
STEEPEST = 0.25  # slope of a LeakyReLU that leaves little below 0


def skew_windows(calls: Sequence[OwnCall]) -> list[OwnCall]:
    """The calls in their order, signed products of such values with `ZERO_POINT`.

    Depthwise kernels take no such windows; what one of them reads stays signed.
    """
    above = _mostly_above(calls)
    above -= {c.x for c in calls if isinstance(c, ProductCall) and _is_depthwise(c)}
    return [
        replace(call, zero_point=ZERO_POINT)
        if isinstance(call, ProductCall) and call.zero_point and call.window and call.x in above
        else call
        for call in calls
    ]


def _mostly_above(calls: Sequence[OwnCall]) -> set[str]:
    """Names of the values that are small below 0."""
    found: set[str] = set()
    for call in calls:
        if isinstance(call, ProductCall):
            kept = _bends(call)
        elif isinstance(call, JoinCall):
            kept = all(part in found for part in call.parts)
        else:
            kept = isinstance(call, PoolCall | NearestCall) and call.x in found
        if kept:
            found.add(call.y)
    return found


def _bends(call: ProductCall) -> bool:
    epilogue = call.epilogue
    if epilogue.activation == "leaky":
        return 0 <= epilogue.alpha <= STEEPEST
    return epilogue.activation in ("hardswish", "silu", "gelu")


def _is_depthwise(call: ProductCall) -> bool:
    return call.groups > 1 and call.shape[0] == call.groups and call.shape[-1] == 1
