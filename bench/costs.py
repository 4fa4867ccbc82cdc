"""What the multiplications of a network cost, in products of a dot instruction."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod

from accel.pairs import find_pairs, find_pooled
from accel.schedule import Call, MatMulCall, PoolCall, ProductCall, Schedule

DOT, PAIR, FLOAT = 1, 2, 4  # what a multiplication of each kind costs, in products of a dot
WINOGRAD = 2 / 3  # of the products of a 3x3 depthwise layer of stride 1
LINES = 4  # products of a kernel row for two lines of a transformed layer


def taps(size: int, made: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Taps inside the image, over all places of one axis."""
    places = (o * stride - pad + k * dilation for o in range(made) for k in range(kernel))
    return sum(0 <= place < size for place in places)


def product(call: ProductCall, schedule: Schedule, levels: int) -> tuple[float, float]:
    """Cost of the products of a layer, and of its other multiplications; `levels` it stores."""
    oc, high, wide, depth = (call.shape[0], 1, 1, call.shape[1]) if call.rows else call.shape
    made, source = schedule.shapes[call.y], schedule.shapes[call.x]
    assert made is not None and source is not None
    if call.rows:
        pixels = inside = prod(made[:-1])
    else:
        image, out = source[1:3] if call.border is not None else source[2:4], made[2:4]
        kernel = (high, wide)
        pixels = made[0] * prod(out)
        seen = [
            taps(image[i], out[i], kernel[i], call.strides[i], call.pads[i], call.dilations[i])
            for i in range(len(out))
        ]
        if call.winograd:
            seen[0] = LINES * ceil(out[0] / 2)
        inside = made[0] * prod(seen)
    # behind one scale for all of the image, the largest sums are the largest values
    scaled = min(pixels * oc, levels) if call.window is None and levels else pixels * oc
    finish = FLOAT * (scaled + levels)
    if call.groups == oc > 1 and depth == 1:
        winograd = (high, wide) == (3, 3) and max(call.strides) == 1
        return PAIR * inside * oc * (WINOGRAD if winograd else 1.0), finish
    windows = 0 if call.window is None else ceil(depth / call.window)
    return DOT * inside * oc * depth, FLOAT * inside * oc * windows + finish


def count_levels(schedule: Schedule) -> dict[str, int]:
    """Values of each product that are rounded to levels: not those that a depthwise layer takes as
    they are made, and only the largest where a maximum alone reads them."""
    found = {c.y: prod(schedule.shapes[c.y] or ()) for c in schedule.calls if is_product(c)}
    found.update(dict.fromkeys(find_pairs(schedule), 0))
    pools = {c.x: c.y for c in schedule.calls if isinstance(c, PoolCall)}
    found.update({y: prod(schedule.shapes[pools[y]] or ()) for y in find_pooled(schedule)})
    return found


def is_product(call: Call) -> bool:
    return isinstance(call, ProductCall | MatMulCall)


def costs(schedule: Schedule) -> Iterator[tuple[float, float]]:
    """Those of every call that multiplies."""
    levels = count_levels(schedule)
    for call in schedule.calls:
        if isinstance(call, ProductCall):
            yield product(call, schedule, levels[call.y])
        elif isinstance(call, MatMulCall):
            values = levels[call.y]
            windows = ceil(call.macs / values / call.window)
            yield DOT * call.macs, FLOAT * values * (windows + 2)
