"""Fold additions and multiplications by a constant per channel into the convolution before them.

    (conv(x, w) + b) * k + c  =  conv(x, w * k) + (b * k + c)

Frontends that take batch normalization apart leave such chains. Computed in float64, stored in
float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g

Array = np.ndarray[Any, Any]


def fold_affine(model: ir.Model) -> ir.Model:
    """Fold every Add, Sub and Mul whose other input is a Conv that nothing else reads."""
    for node in list(model.graph):
        if g.is_op(node, "Add", "Sub", "Mul"):
            _fold(model.graph, node)
    return g.drop_unused(model)


def _fold(graph: ir.Graph, node: ir.Node) -> None:
    found = _conv_and_constant(node)
    if found is None:
        return
    conv, array = found
    weight, bias = g.constant(conv.inputs[1]), _bias(conv)
    if weight is None or bias is None:
        return
    channels = len(weight)
    k, c = np.ones(channels), np.zeros(channels)
    if node.op_type == "Mul":
        k = array
    else:
        c = array if node.op_type == "Add" else -array
    if (k != 1).any():
        folded = (weight * k.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
        conv.replace_input_with(1, g.add_initializer(graph, f"{conv.name}_weight", folded))
    folded_bias = (np.broadcast_to(bias, channels) * k + c).astype(np.float32)
    conv.resize_inputs(3)
    conv.replace_input_with(2, g.add_initializer(graph, f"{conv.name}_bias", folded_bias))
    g.replace_value(node.outputs[0], conv.outputs[0])
    graph.remove(node, safe=True)


def _conv_and_constant(node: ir.Node) -> tuple[ir.Node, Array] | None:
    """The Conv and the constant (channels,) in float64, None where the node is not such a one."""
    for i in (0, 1) if node.op_type != "Sub" else (0,):
        x, array = node.inputs[i], g.constant(node.inputs[1 - i])
        conv = x.producer() if x is not None else None
        if x is None or array is None or conv is None or not g.is_op(conv, "Conv"):
            continue
        weight = g.constant(conv.inputs[1])
        if g.only_consumer(x) is not node or weight is None or array.dtype != np.float32:
            continue
        per_channel = _per_channel(array, weight.ndim, len(weight))
        if per_channel is not None:
            return conv, per_channel
    return None


def _per_channel(array: Array, rank: int, channels: int) -> Array | None:
    if array.ndim > rank:
        return None
    full = (1,) * (rank - array.ndim) + array.shape
    if any(d != 1 for i, d in enumerate(full) if i != 1) or full[1] not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1).astype(np.float64), channels)


def _bias(conv: ir.Node) -> Array | None:
    """The bias in float64, zero without one, None where it is not constant."""
    value = conv.inputs[2] if len(conv.inputs) > 2 else None
    if value is None:
        return np.zeros(1)
    bias = g.constant(value)
    return None if bias is None else bias.astype(np.float64)
