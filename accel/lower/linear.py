"""Lower linear Resize of height and width: every output pixel lies between four of the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.schedule import LinearCall

Array = np.ndarray[Any, Any]

_PLACES: dict[str, Callable[[Array, float, int, int], Array]] = {  # of pixels i; scale, from, to
    "half_pixel": lambda i, scale, size, out: (i + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda i, scale, size, out: (i + 0.5) / scale - 0.5 if out > 1 else 0 * i,
    "asymmetric": lambda i, scale, size, out: i / scale,
    "align_corners": lambda i, scale, size, out: i * (size - 1) / max(out - 1, 1),
}
_PLAIN = {"antialias": 0, "exclude_outside": 0, "keep_aspect_ratio_policy": "stretch"}


def linear_call(node: ir.Node, images: set[str]) -> LinearCall | None:
    """The call for a Resize of an image that our kernels made."""
    x = node.inputs[0] if node.inputs else None
    if not g.is_op(node, "Resize") or x is None or x.name not in images:
        return None
    if g.attribute(node, "mode", "nearest") != "linear" or "axes" in node.attributes:
        return None
    if any(g.attribute(node, name, value) != value for name, value in _PLAIN.items()):
        return None
    place = _PLACES.get(g.attribute(node, "coordinate_transformation_mode", "half_pixel"))
    sizes, outs = g.known_shape(x), g.known_shape(node.outputs[0])
    if place is None or sizes is None or outs is None or len(sizes) != 4 or sizes[:2] != outs[:2]:
        return None
    scales = _scales(node, sizes, outs)
    if scales is None or 0 in sizes + outs:
        return None
    rows, columns = (
        tuple(np.clip(place(np.arange(out), scale, size, out), 0, size - 1).tolist())
        for size, out, scale in zip(sizes[2:], outs[2:], scales[2:], strict=True)
    )
    out = node.outputs[0].name or ""
    return LinearCall(node.name or out, node.op_type, x.name or "", out, rows, columns)


def _scales(node: ir.Node, sizes: tuple[int, ...], outs: tuple[int, ...]) -> list[float] | None:
    """Of every axis, as given or as the sizes have it; None where the node does not tell them."""
    named = [v for v in node.inputs[2:3] if v is not None and v.name]
    given = g.constant(named[0]) if named else None
    if named and given is None:
        return None
    if given is None or not given.size:
        return [out / size for size, out in zip(sizes, outs, strict=True)]
    scales: list[float] = given.astype(float).tolist()
    return scales if scales[:2] == [1.0, 1.0] else None
