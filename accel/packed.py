"""Packed weights of products: one copy in a process, however many programs of a model use it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from accel import kernels
from accel.schedule import ProductCall
from accel.winograd import transform_weights

PackedFor = Callable[[ProductCall], kernels.PackedWeights]

_HELD: WeakValueDictionary[tuple[Any, ...], kernels.PackedWeights] = WeakValueDictionary()
_LOCK = threading.Lock()


def shared_weights(digest: str) -> PackedFor:
    """Packs the weights of a model, or finds those that another program of it still uses.

    Parameters
    ----------
    digest : of the model, `Model.digest`.
    """

    def packed(call: ProductCall) -> kernels.PackedWeights:
        options = (call.window, call.weight_window, call.fine, call.zero_point, call.groups)
        kind = (call.border, call.winograd, kernels.isa())
        key = (digest, call.name, call.y, call.shape, *options, *kind)
        with _LOCK:
            found = _HELD.get(key)
            if found is None:
                found = _HELD[key] = pack(call)
            return found

    return packed


def pack(call: ProductCall) -> kernels.PackedWeights:
    """The weights of a call in the order of the kernels."""
    assert call.qw is not None and call.scale is not None
    qw, scale = call.qw, call.scale
    if call.winograd:
        qw, scale = transform_weights(qw, scale)
    return kernels.pack_weights(
        qw,
        scale,
        call.window,
        weight_window=call.weight_window,
        signed=call.zero_point,
        groups=call.groups,
        winograd=call.winograd,
    )
