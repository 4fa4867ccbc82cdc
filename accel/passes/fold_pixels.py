"""Fold image normalisation into the first convolution, so that it can read raw pixels.

With ``x = f * p + o`` for a pixel p of channel c and m = round(-o / f), the value that stands
for zero, the convolution becomes one over ``p - m``:

    sum w * x  =  sum (w * f) * (p - m)  +  sum w * (o + f * m)

The last sum goes into the bias. Where the border is padded, ``p - m`` is 0 while ``x`` would have
been ``o + f * m``, at most half a grey level: the only difference, and none without padding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from accel import graph as g

Array = np.ndarray[Any, Any]


class Normalisation(NamedTuple):
    """Nodes from a uint8 NHWC input to a float NCHW image, and what they compute."""

    nodes: list[ir.Node]
    order: Array  # raw channel of each channel of the network
    factor: Array
    offset: Array
    output: ir.Value


def fold_pixels(model: ir.Model) -> ir.Model:
    """Rewrite every such input of a model: Cast, Sub and Transpose stay in front of the Conv."""
    for value in g.data_inputs(model.graph):
        found = _normalisation(value)
        conv = g.only_consumer(found.output) if found is not None else None
        if found is not None and conv is not None:
            _fold(model.graph, value, found, conv)
    return g.drop_unused(model)


def _normalisation(value: ir.Value) -> Normalisation | None:
    shape = g.shape_of(value)
    if value.dtype != ir.DataType.UINT8 or shape is None or len(shape) != 4 or not shape[3]:
        return None
    channels = shape[3]
    order, factor, offset = np.arange(channels), np.ones(channels), np.zeros(channels)
    nodes: list[ir.Node] = []
    node = g.only_consumer(value)
    while node is not None:
        nodes.append(node)
        array = g.constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if g.is_op(node, "Transpose"):
            whole = list(g.attribute(node, "perm", ())) == [0, 3, 1, 2]
            found = Normalisation(nodes, order, factor, offset, node.outputs[0])
            return found if whole and g.is_op(nodes[0], "Cast") else None
        if g.is_op(node, "Gather") and array is not None and g.attribute(node, "axis", 0) == 3:
            if sorted(array.reshape(-1).tolist()) != list(range(channels)):
                return None
            order, factor, offset = (v[array.reshape(-1)] for v in (order, factor, offset))
        elif array is not None and g.is_op(node, "Mul", "Add") and array.size in (1, channels):
            flat = np.broadcast_to(array.reshape(-1).astype(np.float64), channels)
            factor = factor * flat if node.op_type == "Mul" else factor
            offset = offset * flat if node.op_type == "Mul" else offset + flat
        elif not g.is_op(node, "Cast") or len(nodes) > 1:
            return None
        node = g.only_consumer(node.outputs[0])
    return None


def _fold(graph: ir.Graph, pixels: ir.Value, found: Normalisation, conv: ir.Node) -> None:
    weight = g.constant(conv.inputs[1]) if g.is_op(conv, "Conv") else None
    bias_value = conv.inputs[2] if len(conv.inputs) > 2 else None
    bias = g.constant(bias_value)
    if weight is None or weight.ndim != 4 or g.attribute(conv, "group", 1) != 1:
        return
    if (bias_value is not None) != (bias is not None) or (found.factor == 0).any():
        return
    zero = -found.offset / found.factor
    level = np.clip(np.rint(zero), 0, 255)
    automatic = g.attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    padded = automatic or any(g.attribute(conv, "pads", [0]))
    if padded and (np.abs(zero - level) > 0.5).any():
        return  # no pixel stands for zero
    w = weight.astype(np.float64)
    rest = (found.offset + found.factor * level)[None, :, None, None]
    b = (w * rest).sum(axis=(1, 2, 3)) + (0.0 if bias is None else bias)
    raw = np.argsort(found.order)  # the network's channel of each raw channel
    w = (w * found.factor[None, :, None, None])[:, raw]
    _rewire(graph, pixels, found, conv, w.astype(np.float32), b.astype(np.float32), level[raw])


def _rewire(
    graph: ir.Graph,
    pixels: ir.Value,
    found: Normalisation,
    conv: ir.Node,
    weight: Array,
    bias: Array,
    level: Array,
) -> None:
    cast = found.nodes[0].outputs[0]
    zero = g.add_initializer(graph, f"{pixels.name}_zero", level.astype(np.float32))
    centred = g.insert_node(graph, conv, "Sub", [cast, zero], f"{pixels.name}_centred")
    image = g.insert_node(
        graph, conv, "Transpose", [centred], f"{pixels.name}_image", {"perm": [0, 3, 1, 2]}
    )
    name = conv.name or conv.outputs[0].name
    conv.replace_input_with(0, image)
    conv.replace_input_with(1, g.add_initializer(graph, f"{name}_pixel_weight", weight))
    conv.resize_inputs(3)
    conv.replace_input_with(2, g.add_initializer(graph, f"{name}_pixel_bias", bias))
