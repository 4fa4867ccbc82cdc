"""A maximum of a concatenation of convolutions: the maxima of the parts, each of which then is one
step with its convolution."""

from __future__ import annotations

from dataclasses import replace

from accel.pairs import find_readers, find_wide, thins
from accel.schedule import Call, JoinCall, PoolCall, Schedule


def pool_parts(schedule: Schedule) -> Schedule:
    """Pool the parts of concatenations instead of the whole, where nothing else reads either."""
    readers, wide = find_readers(schedule), find_wide(schedule)
    joins = {
        c.y: c
        for c in schedule.calls
        if isinstance(c, JoinCall) and readers[c.y] == 1 and wide.keys() >= set(c.parts)
    }
    pools = [c for c in schedule.calls if isinstance(c, PoolCall) and c.x in joins and thins(c)]
    pooled = {pool.x for pool in pools}
    shapes, dtypes = dict(schedule.shapes), dict(schedule.dtypes)
    calls: list[Call] = []
    for call in schedule.calls:
        if isinstance(call, PoolCall) and call.x in pooled:
            join = joins[call.x]
            parts = [
                replace(call, name=f"{call.name}/{i}" if i else call.name, x=x, y=f"{call.y}/{x}")
                for i, x in enumerate(join.parts)
            ]
            for part in parts:
                shapes[part.y] = _with_channels(shapes[call.y], shapes[part.x])
                dtypes[part.y] = dtypes[call.y]
            calls += [*parts, replace(join, parts=tuple(p.y for p in parts), y=call.y)]
        elif not (isinstance(call, JoinCall) and call.y in pooled):
            calls.append(call)
    return replace(schedule, calls=tuple(calls), shapes=shapes, dtypes=dtypes)


def _with_channels(
    shape: tuple[int, ...] | None, other: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    return None if shape is None or other is None else (shape[0], other[1], *shape[2:])
