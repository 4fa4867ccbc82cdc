"""Let a first layer of few channels keep what rounding takes off its values.

Few channels have windows of few and unlike values, and all of a network sees the errors of its
first layer: of what rounding activations adds to the heads of a detector, one of 8 channels made a
third, in power. Such a tensor has its channels twice, once as levels and once as the sixteenths
that are left of them (`rests` of `kernels.QTensor`), for which half of the layer's vectors were
free. The layer behind multiplies both, the latter by a sixteenth of its weights: two products
instead of one, of few channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from accel.pairs import find_readers
from accel.schedule import ProductCall, Schedule

MOST = 8  # channels: half a vector of 512 bits
STEPS = 16  # of rests in a level
LEAST = STEPS // 2  # zero point

Array = np.ndarray[Any, Any]


def keep_rests(schedule: Schedule) -> Schedule:
    """The schedule with rests where one product alone reads what such a layer makes."""
    readers = find_readers(schedule)
    products = [call for call in schedule.calls if isinstance(call, ProductCall)]
    made = {call.y for call in products if _is_first(call) and readers[call.y] == 1}
    calls = (
        _of_both(call)
        if isinstance(call, ProductCall) and call.x in made and _takes_rests(call)
        else call
        for call in schedule.calls
    )
    return replace(schedule, calls=tuple(calls))


def _is_first(call: ProductCall) -> bool:
    """Whether a convolution reads an image that has one scale, and gives few channels."""
    return not call.rows and call.groups == 1 and call.window is None and call.shape[0] <= MOST


def _takes_rests(call: ProductCall) -> bool:
    """Whether a convolution reads pixels of one window each, mostly of values above 0."""
    dense = not call.rows and call.groups == 1 and call.weight_window is None
    one = call.window is not None and call.window >= call.shape[-1]
    return dense and one and LEAST <= call.zero_point < 128


def _of_both(call: ProductCall) -> ProductCall:
    assert call.qw is not None and call.window is not None
    rest = np.rint(call.qw / STEPS).astype(call.qw.dtype)
    qw = np.concatenate([call.qw, rest], axis=-1)
    window = max(call.window, qw.shape[-1])
    return replace(call, shape=qw.shape, qw=qw, window=window, rests=True)
