"""Lower nearest-neighbour Resize by whole factors: every output pixel is a copy."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.schedule import NearestCall

MAX_FACTOR = 64
HALF = Fraction(1, 2)

_COORDINATES: dict[str, Callable[[int, int], Fraction]] = {  # of an output pixel and the factor
    "half_pixel": lambda i, f: (i + HALF) / f - HALF,
    "pytorch_half_pixel": lambda i, f: (i + HALF) / f - HALF,
    "asymmetric": lambda i, f: Fraction(i, f),
}
_ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda x: ceil(x - HALF),
    "round_prefer_ceil": lambda x: floor(x + HALF),
    "floor": floor,
    "ceil": ceil,
}


def nearest_call(node: ir.Node, images: set[str]) -> NearestCall | None:
    """The call for a Resize of an image that our kernels made."""
    x = node.inputs[0] if node.inputs else None
    if not g.is_op(node, "Resize") or x is None or x.name not in images:
        return None
    factors = _factors(node, g.known_shape(x), g.known_shape(node.outputs[0]))
    coordinate = _COORDINATES.get(g.attribute(node, "coordinate_transformation_mode", "half_pixel"))
    rounding = _ROUNDINGS.get(g.attribute(node, "nearest_mode", "round_prefer_floor"))
    if factors is None or coordinate is None or rounding is None:
        return None
    height, width = (g.known_shape(x) or ())[2:]
    rows, columns = (
        tuple(min(max(rounding(coordinate(i, f)), 0), size - 1) for i in range(size * f))
        for size, f in ((height, factors[0]), (width, factors[1]))
    )
    out = node.outputs[0].name or ""
    return NearestCall(node.name or out, node.op_type, x.name or "", out, rows, columns)


def _factors(
    node: ir.Node, x: tuple[int, ...] | None, y: tuple[int, ...] | None
) -> tuple[int, int] | None:
    """Whole factors of height and width; None where the node does anything else."""
    if g.attribute(node, "mode", "nearest") != "nearest" or "axes" in node.attributes:
        return None
    if x is None or y is None or len(x) != 4 or x[:2] != y[:2] or 0 in x:
        return None
    if any(out % size or out // size > MAX_FACTOR for size, out in zip(x, y, strict=True)):
        return None
    factors = [out // size for size, out in zip(x, y, strict=True)]
    named = [v for v in node.inputs[2:3] if v is not None and v.name]
    scales = g.constant(named[0]) if named else None
    if scales is None and len(node.inputs) < 4:
        return None
    if scales is not None and scales.size and not np.array_equal(scales, factors):
        return None
    return factors[2], factors[3]
