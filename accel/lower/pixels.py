"""Lower a first convolution that reads raw pixels: Cast, Sub and Transpose of a uint8 input go
away, and the kernel reads the bytes as they come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.schedule import ProductCall

Array = np.ndarray[Any, Any]
MAX_CHANNELS = 4  # one pixel is one step of the dot product


def read_pixels(call: ProductCall, conv: ir.Node, claimed: set[ir.Node]) -> ProductCall:
    """The same call on the uint8 input behind it, where there is one; else the call as it is."""
    found = _pixels_behind(conv.inputs[0])
    if found is None or call.fine or call.weight_window is not None or call.groups != 1:
        return call
    assert call.qw is not None and call.scale is not None
    pixels, level, nodes = found
    claimed.update(nodes)
    # sum qw * (p - level) = sum qw * p - sum qw * level, and a border of `level` adds nothing
    shift = (call.qw.astype(np.float64) * level).sum(axis=(1, 2, 3)) * call.scale
    bias = (0.0 if call.bias is None else call.bias) - shift
    return replace(
        call,
        x=pixels.name or "",
        window=None,
        zero_point=0,
        bias=bias.astype(np.float32),
        border=tuple(int(v) for v in level),
    )


def _pixels_behind(value: ir.Value | None) -> tuple[ir.Value, Array, list[ir.Node]] | None:
    """Input, level of each channel and nodes of Transpose(Sub(Cast(input), level))."""
    nodes: list[ir.Node] = []
    for op in ("Transpose", "Sub", "Cast"):
        node = value.producer() if value is not None else None
        if value is None or node is None or not g.is_op(node, op) or not g.only_consumer(value):
            return None
        nodes.append(node)
        value = node.inputs[0]
    shape = g.known_shape(value) if value is not None else None
    if value is None or shape is None or value.dtype != ir.DataType.UINT8 or len(shape) != 4:
        return None
    level = g.constant(nodes[1].inputs[1])
    whole = list(g.attribute(nodes[0], "perm", ())) == [0, 3, 1, 2]
    if level is None or not whole or not value.is_graph_input() or shape[3] > MAX_CHANNELS:
        return None
    level = level.reshape(-1)
    if len(level) != shape[3] or (level != np.clip(np.rint(level), 0, 255)).any():
        return None
    return value, level, nodes
