"""Results of operators on constants, for weights and shapes that are stored in parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from accel.importers.builder import MAX_ELEMENTS
from accel.importers.openvino.operator import NUMPY_TYPES, Operator

Array = np.ndarray[Any, Any]


def _folded_convert(op: Operator) -> Array | None:
    return op.constant(0).astype(NUMPY_TYPES[op.dtype()]) if op.dtype() in NUMPY_TYPES else None


def _folded_pair(op: Operator, function: Callable[[Array, Array], Any]) -> Array | None:
    a, b = op.constant(0), op.constant(1)
    if np.broadcast(a, b).size > MAX_ELEMENTS:
        return None
    return np.asarray(function(a, b), a.dtype)


def _folded_quantize(op: Operator) -> Array:
    x, low, high, out_low, out_high = (op.constant(i) for i in range(5))
    steps = float(op.attributes["levels"]) - 1
    y = np.round((np.minimum(np.maximum(x, low), high) - low) / (high - low) * steps) / steps
    return np.asarray(y * (out_high - out_low) + out_low, x.dtype)


# operators whose result on constants is needed at once: weights and shapes stored in parts
FOLDS: dict[str, Callable[[Operator], Array | None]] = {
    "Add": partial(_folded_pair, function=np.add),
    "Convert": _folded_convert,
    "FakeQuantize": _folded_quantize,
    "Multiply": partial(_folded_pair, function=np.multiply),
    "Reshape": lambda op: op.constant(0).reshape([d or 0 for d in op.output_shape()]),
    "Squeeze": lambda op: op.constant(0).reshape([d or 0 for d in op.output_shape()]),
    "Subtract": partial(_folded_pair, function=np.subtract),
    "Transpose": lambda op: op.constant(0).transpose(op.integers(1)),
    "Unsqueeze": lambda op: op.constant(0).reshape([d or 0 for d in op.output_shape()]),
}
