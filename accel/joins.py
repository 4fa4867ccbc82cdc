"""Concatenation without copying: the parts are made where they belong in the whole."""

from __future__ import annotations

from accel.arena import Arena
from accel.forms import Floats
from accel.readers import windows_key
from accel.schedule import JoinCall, NearestCall, PoolCall, ProductCall, Schedule
from accel.values import Values, nhwc_shape


def place_joins(schedule: Schedule, values: Values, arena: Arena) -> None:
    """Give each concatenation its memory and let the parts be slices of it, outer first."""
    made = {c.y for c in schedule.calls if isinstance(c, PoolCall | JoinCall)}
    made |= {c.y for c in schedule.calls if isinstance(c, ProductCall) and not c.rows}
    floats = made | {c.y for c in schedule.calls if isinstance(c, NearestCall)}
    readers = values.readers
    for call in reversed(schedule.calls):
        if not isinstance(call, JoinCall):
            continue
        sliced = _slice_windows(call, made, values)
        if not sliced or call.y in readers.floats or call.y in readers.plain:
            _slice_floats(call, floats, values, arena)
        if call.y in readers.plain:
            values.make_plain(call.y)


def _slice_floats(call: JoinCall, made: set[str], values: Values, arena: Arena) -> None:
    if call.y not in values.floats:
        values.floats[call.y] = Floats.reserve(arena, nhwc_shape(values.shape(call.y), False))
    for part, start, end in values.ranges(call):
        values.readers.floats.setdefault(part, False)
        if part in made and part not in values.floats:
            values.floats[part] = values.floats[call.y].channels(start, end)


def _slice_windows(call: JoinCall, made: set[str], values: Values) -> bool:
    """Let the parts write into the windows of the whole, where all of them can."""
    readers = values.readers.products(call.y)
    ranges, whole = values.ranges(call), values.shape(call.y)[1]
    if len({windows_key(call.y, r) for r in readers}) != 1 or readers[0].rows:
        return False
    reader, window = readers[0], readers[0].window or whole
    aligned = all(
        start % window == 0 and (end % window == 0 or end == whole) for _, start, end in ranges
    )
    once = len(set(call.parts)) == len(call.parts)
    free = all(p in made and p not in values.slices and not values.readers.products(p)
               for p in call.parts)  # fmt: skip
    if not (aligned and once and free) or call.y in values.slices:
        return False
    windows = values.make_windows(call.y, reader)
    for part, start, end in ranges:
        values.slices[part] = windows.channels(start, end)
    return True
