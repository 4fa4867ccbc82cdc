"""Write a graph as a static QDQ model for the int8 kernels of other engines.

Activations become uint8 with one scale and zero point for each tensor, from measured ranges;
weights int8 with one scale for each output channel, as `round_weights` rounds them; biases int32.
Engines look for a float operator between DequantizeLinear and QuantizeLinear, so every tensor that
enters or leaves an int8 operator gets one pair; a ReLU or Clip behind a product stays inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.passes.keep_int8 import dequantized
from accel.passes.quantize_weights import quantize_weights, weight_axes

LEVELS = 255
TINY = 2.0**-100  # smallest scale, of tensors that are always zero
_ACTIVATIONS = ("Relu", "Clip")
_SAME_LEVELS = (  # move or choose values: their output has the levels of their input
    "DepthToSpace", "Dropout", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "SpaceToDepth",
    "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
_FOLLOWERS = (  # int8 in the engines where all they read is
    "Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Pad", "Relu",
    "Resize", "Sigmoid", *_SAME_LEVELS,
)  # fmt: skip

Array = np.ndarray[Any, Any]


def tensors_to_measure(model: ir.Model) -> list[ir.Value]:
    """The activations that become uint8; their ranges are what `write_qdq` needs."""
    chosen: dict[str, ir.Value] = {}
    for node in model.graph:
        if not _is_product(node):
            continue
        for value in (node.inputs[0], _tail(node)):
            if value is not None and value.dtype in (None, ir.DataType.FLOAT):
                chosen[value.name or ""] = value
    for node in model.graph:
        data = [v for v in node.inputs if v is not None and v.dtype != ir.DataType.INT64]
        if g.is_op(node, *_FOLLOWERS) and data and len(node.outputs) == 1:
            moved = data[:1] if g.is_op(node, *_SAME_LEVELS, "Pad", "Resize") else data
            if all(v.name in chosen for v in moved):
                out = _tail(node) if g.is_op(node, "Add") else node.outputs[0]
                chosen[out.name or ""] = out
    return [v for v in chosen.values() if _feeds_int8(v, chosen)]


def write_qdq(model: ir.Model, ranges: Mapping[str, tuple[float, float]]) -> ir.Model:
    """Quantize the graph in place.

    Parameters
    ----------
    ranges : smallest and largest value of each tensor of `tensors_to_measure`.
    """
    quantize_weights(model, None, per_channel=True)
    levels = _levels(model, ranges)
    for node in list(model.graph):
        if _is_product(node):
            _name_zero(model.graph, node)
            x = node.inputs[0]
            if x is not None and x.name in levels:
                _write_bias(model.graph, node, levels[x.name or ""][0])
    for value in _values(model.graph):
        if value.name in levels:
            _write_pair(model.graph, value, *levels[value.name or ""])
    return g.drop_unused(model)


def _is_product(node: ir.Node) -> bool:
    """Whether the node is a Conv, Gemm or MatMul with constant weights."""
    if weight_axes(node) is None or node.inputs[0] is None:
        return False
    value = node.inputs[1]
    made = value.producer() if value is not None else None
    return g.constant(value) is not None or dequantized(made) is not None


def _tail(node: ir.Node) -> ir.Value:
    """What leaves a product: its output, or that of the ReLU or Clip behind it."""
    reader = g.only_consumer(node.outputs[0])
    behind = reader is not None and g.is_op(reader, *_ACTIVATIONS)
    return reader.outputs[0] if reader is not None and behind else node.outputs[0]


def _feeds_int8(value: ir.Value, chosen: Mapping[str, ir.Value]) -> bool:
    """Whether an int8 operator reads the value, or a convolution made it (it gives no floats)."""
    maker = value.producer()
    while maker is not None and g.is_op(maker, *_ACTIVATIONS):
        maker = maker.inputs[0].producer() if maker.inputs[0] is not None else None
    if maker is not None and g.is_op(maker, "Conv") and _is_product(maker):
        return True
    return any(
        _is_product(reader) or any(o.name in chosen for o in reader.outputs)
        for reader, _ in value.uses()
    )


def _levels(
    model: ir.Model, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[Array, Array]]:
    """Scale (float32) and zero point (uint8) of each tensor."""
    found: dict[str, tuple[Array, Array]] = {}
    for value in _values(model.graph):
        if value.name not in ranges:
            continue
        maker = value.producer()
        source = maker.inputs[0] if maker is not None and maker.inputs else None
        if source is not None and g.is_op(maker, *_SAME_LEVELS) and source.name in found:
            found[value.name or ""] = found[source.name]
            continue
        low, high = (float(bound) for bound in ranges[value.name or ""])
        low, high = (
            min(low, 0.0),
            max(high, 0.0),
        )  # zero must be a level: borders are padded with it
        scale = np.float32(max((high - low) / LEVELS, TINY))
        zero = np.uint8(np.clip(np.rint(-low / float(scale)), 0, LEVELS))
        found[value.name or ""] = (np.asarray(scale), np.asarray(zero))
    return found


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(o for node in graph for o in node.outputs)]


def _name_zero(graph: ir.Graph, node: ir.Node) -> None:
    """ONNX Runtime's int8 Gemm is chosen only where the weights' zero point is spelled out."""
    source = node.inputs[1].producer() if node.inputs[1] is not None else None
    if source is None or len(source.inputs) != 2 or source.inputs[1] is None:
        return
    zeros = np.zeros(source.inputs[1].shape.numpy() if source.inputs[1].shape else (), np.int8)
    source.resize_inputs(3)
    source.replace_input_with(2, g.add_initializer(graph, f"{node.name}_weight_zero", zeros))


def _write_bias(graph: ir.Graph, node: ir.Node, x_scale: Array) -> None:
    """int32 at the product of the scales, where it fits; else the bias stays float."""
    bias = g.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    source = node.inputs[1].producer() if node.inputs[1] is not None else None
    w_scale = g.constant(source.inputs[1]) if source is not None else None
    if bias is None or w_scale is None or bias.size not in (1, w_scale.size):
        return
    scale = (np.broadcast_to(x_scale, w_scale.shape) * w_scale).astype(np.float32)
    levels = np.rint(np.broadcast_to(bias.reshape(-1), scale.shape) / scale.astype(np.float64))
    if not (np.abs(levels) < 2**31).all():
        return
    inputs = [
        g.add_initializer(graph, f"{node.name}_bias_int32", levels.astype(np.int32)),
        g.add_initializer(graph, f"{node.name}_bias_scale", scale),
    ]
    out = g.insert_node(
        graph, node, "DequantizeLinear", inputs, f"{node.name}_bias_real", {"axis": 0}
    )
    out.shape, out.dtype = ir.Shape(scale.shape), ir.DataType.FLOAT
    node.replace_input_with(2, out)


def _write_pair(graph: ir.Graph, value: ir.Value, scale: Array, zero: Array) -> None:
    """QuantizeLinear and DequantizeLinear between a value and its readers."""
    readers = [reader for reader, _ in value.uses()]
    first = next((n for n in graph if n in set(readers)), None)
    if first is None:
        return
    uses = list(value.uses())
    parameters = [
        g.add_initializer(graph, f"{value.name}_scale", scale),
        g.add_initializer(graph, f"{value.name}_zero", zero),
    ]
    levels = g.insert_node(
        graph, first, "QuantizeLinear", [value, *parameters], f"{value.name}_levels"
    )
    real = g.insert_node(
        graph, first, "DequantizeLinear", [levels, *parameters], f"{value.name}_real"
    )
    levels.shape = real.shape = value.shape
    levels.dtype, real.dtype = ir.DataType.UINT8, ir.DataType.FLOAT
    for reader, index in uses:
        reader.replace_input_with(index, real)
