"""Let 3 x 3 convolutions take two thirds of their products: Winograd's F(2, 3) along y.

Two lines of output take four products of one kernel row instead of six. Their factors are sums and
differences of lines, rounded to windows of their own; docs/design.md tells what that costs in
accuracy. Where there are few channels the transform takes longer than what it saves, and a layer of
few multiplications saves too little of a network's time for that.
"""

from __future__ import annotations

from dataclasses import replace

from accel.pairs import find_pairs, find_pooled, find_shortcuts
from accel.schedule import PoolCall, ProductCall, Schedule

LEAST_INPUTS = 32
LEAST_OUTPUTS = 64
LEAST_MACS = 1 << 25  # of an image
MOST_WINDOW, STEP = 256, 16  # LW_LINE_WINDOW, LW_LINE_STEP


def use_winograd(schedule: Schedule) -> Schedule:
    """The schedule with transformed weights wherever they are faster."""
    shortcuts = find_shortcuts(schedule)
    paired = {*shortcuts, *(call.y for call in find_pairs(schedule).values())}
    pooled = find_pooled(schedule)
    pools = {c.x: c for c in schedule.calls if isinstance(c, PoolCall) and c.x in pooled}
    calls = (
        replace(call, winograd=True)
        if isinstance(call, ProductCall)
        and _is_usual(call)
        and call.macs >= LEAST_MACS * (schedule.shapes[call.y] or (1,))[0]
        and call.y not in paired
        and call.epilogue.residual not in shortcuts
        and (call.y not in pools or _halves(call, pools[call.y]))
        and (schedule.shapes[call.y] or ())[3:] > (1,)
        else call
        for call in schedule.calls
    )
    return replace(schedule, calls=tuple(calls))


def _is_usual(call: ProductCall) -> bool:
    """Whether a convolution is 3 x 3 at stride 1, of windows that the lines can have too."""
    oc, *kernel, ic = call.shape
    if call.rows or kernel != [3, 3] or call.groups > 1 or {*call.strides, *call.dilations} != {1}:
        return False
    if call.window is None or call.weight_window or call.fine or call.zero_point not in (0, 128):
        return False
    window = min(call.window, ic)
    step = STEP if window == ic else 2 * STEP
    fits = ic % window == 0 and window % step == 0 and window <= MOST_WINDOW
    return fits and ic >= LEAST_INPUTS and oc >= LEAST_OUTPUTS


def _halves(call: ProductCall, pool: PoolCall) -> bool:
    """Whether the maxima behind a convolution are those of 2 x 2 of its pixels, none below 0."""
    e = call.epilogue
    floored = e.activation == "relu" or (e.activation == "clip" and min(e.lo, e.hi) >= 0)
    return floored and pool.kernel == pool.strides == (2, 2) and pool.pads[:2] == (0, 0)
