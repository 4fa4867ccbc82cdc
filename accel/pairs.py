"""Pairs of calls that run as one step: a dense convolution, and the depthwise one that alone reads
it, the dense one that alone adds it, or the maximum that alone is wanted of it. Found in a
schedule, whatever the batch, threads and instruction set: they give the same bits. Says which, not
how (that is `kernels.Dense` and `kernels.MaxPool`)."""

from __future__ import annotations

from collections import Counter

from accel.schedule import PoolCall, ProductCall, Schedule

MAX_KERNEL = 7
MAX_POOL = 3


def find_pairs(schedule: Schedule) -> dict[str, ProductCall]:
    """Dense convolutions that the next layer makes row by row, by the name of their result."""
    wide = find_wide(schedule)
    products = [c for c in schedule.calls if isinstance(c, ProductCall) and not c.rows]
    return {c.x: wide[c.x] for c in products if c.x in wide and _takes_rows(c)}


def find_shortcuts(schedule: Schedule) -> dict[str, ProductCall]:
    """Dense convolutions that another one adds to its own sums, by the name of their result."""
    readers = find_readers(schedule)
    able = {c.y: c for c in schedule.calls if isinstance(c, ProductCall) and _is_sum(c)}
    found = {c.epilogue.residual: c for c in able.values()}
    return {
        y: call
        for y, call in able.items()
        if y in found and readers[y] == 1 and _is_plain(call) and not _is_plain(found[y])
    }


def find_pooled(schedule: Schedule) -> dict[str, ProductCall]:
    """Dense convolutions of which only maxima are stored, by the name of their result."""
    wide = find_wide(schedule)
    pools = [c for c in schedule.calls if isinstance(c, PoolCall)]
    return {c.x: wide[c.x] for c in pools if c.x in wide and thins(c)}


def find_wide(schedule: Schedule) -> dict[str, ProductCall]:
    """Dense convolutions of several columns that one call reads, by the name of their result."""
    readers = find_readers(schedule)
    return {
        c.y: c
        for c in schedule.calls
        if isinstance(c, ProductCall)
        and not c.rows
        and readers[c.y] == 1
        and _is_dense(c, schedule.shapes[c.y])
    }


def find_readers(schedule: Schedule) -> Counter[str]:
    """How often each value is read; an output once more."""
    readers = Counter(name for call in schedule.calls for name in call.reads)
    readers.update(schedule.outputs)
    return readers


def thins(call: PoolCall) -> bool:
    """Whether a pooling is a maximum of a usual kind, and has fewer pixels than what it reads."""
    sides = zip(call.kernel, call.strides, strict=True)
    usual = all(2 <= stride <= kernel <= MAX_POOL for kernel, stride in sides)
    inside = all(pad < call.kernel[i % 2] for i, pad in enumerate(call.pads))
    return not call.average and usual and inside and max(call.dilations) == 1


def _is_sum(call: ProductCall) -> bool:
    """Whether a convolution has one group and windows, and no kernel of its own."""
    return not call.rows and call.groups == 1 and call.window is not None and call.shape[3] > 1


def _is_plain(call: ProductCall) -> bool:
    """Whether nothing but a bias follows the product."""
    return call.epilogue.residual is None and call.epilogue.activation == "none"


def _is_dense(call: ProductCall, shape: tuple[int, ...] | None) -> bool:
    """Whether a convolution gives several values in a row, all of its own."""
    wide = shape is not None and len(shape) == 4 and shape[3] > 1
    return wide and call.groups == 1 and call.epilogue.residual is None


def _takes_rows(call: ProductCall) -> bool:
    """Whether a convolution is a depthwise one of a usual kind."""
    oc, high, wide, each = call.shape
    depthwise = call.groups == oc > 1 and each == 1 and call.window is not None
    usual = max(call.strides) <= 2 and max(call.dilations) == 1 and max(high, wide) <= MAX_KERNEL
    return depthwise and usual and max(call.pads) < min(high, wide)
