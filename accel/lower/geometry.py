"""Padding of windows that slide over images, as the ONNX standard resolves it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from accel import graph as g


def resolved_pads(
    node: ir.Node,
    x: Sequence[int],
    y: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Begin pads of all axes, then end pads; `x`, `y` are the spatial sizes."""
    auto = g.attribute(node, "auto_pad", "NOTSET")
    if auto == "NOTSET":
        return list(g.attribute(node, "pads", [0] * (2 * len(x))))
    if auto == "VALID":
        return [0] * (2 * len(x))
    total = [
        max((o - 1) * s + (k - 1) * d + 1 - i, 0)
        for i, o, k, s, d in zip(x, y, kernel, strides, dilations, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return [*small, *large] if auto == "SAME_UPPER" else [*large, *small]
