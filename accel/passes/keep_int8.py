"""Keep what others have quantized: read models with QuantizeLinear and DequantizeLinear nodes.

Weights are taken over as they are, level for level: the same int8 values, the same scales, brought
into the one form that the rest of the code knows. Pairs around activations go away, since windows
take their place; a pair whose range begins at zero also stands for a ReLU or ReLU6 that the tool
removed, and stays as a Clip.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.passes.find_nonnegative import find_nonnegative
from accel.passes.quantize_weights import weight_axes
from accel.passes.unpack_qoperators import unpack_qoperators

LIMIT = 127

# operators that choose or move values, whatever the values stand for
_MOVES = (
    "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "Identity", "MaxPool",
    "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
)  # fmt: skip

Array = np.ndarray[Any, Any]


def keep_int8(model: ir.Model) -> ir.Model:
    """Rewrite a model that others have quantized; any other stays as it is."""
    model = unpack_qoperators(model)
    nodes = list(model.graph)
    if not any(g.is_op(n, "QuantizeLinear", "DequantizeLinear") for n in nodes):
        return model
    for node in nodes:
        if weight_axes(node) is not None:
            _keep_weight(model.graph, node)
    nonnegative = find_nonnegative(model)
    for node in nodes:
        if g.is_op(node, "QuantizeLinear"):
            _drop_pair(model.graph, node, nonnegative)
    for node in list(model.graph):
        if g.is_op(node, "DequantizeLinear"):
            _fold_bias(model.graph, node)
    return g.drop_unused(model)


def dequantized(node: ir.Node | None) -> Array | None:
    """Real values of a DequantizeLinear of constants, float32; None where it is none."""
    if node is None or not g.is_op(node, "DequantizeLinear"):
        return None
    q, scale, zero = _constants(node)
    if q is None or scale is None or scale.dtype != np.float32:
        return None
    axis, block = g.attribute(node, "axis", 1), g.attribute(node, "block_size", 0)
    levels = q.astype(np.float32)
    if zero is not None:
        levels = levels - _spread(zero.astype(np.float32), q, axis, block)
    found: Array = levels * _spread(scale, q, axis, block)
    return found


def _constants(node: ir.Node) -> tuple[Array | None, Array | None, Array | None]:
    values = [*node.inputs, None][:3]
    q, scale, zero = (g.constant(v) for v in values)
    return (None, None, None) if values[2] is not None and zero is None else (q, scale, zero)


def _spread(per: Array, q: Array, axis: int, block: int) -> Array:
    """Scales or zero points in a shape that broadcasts over the levels."""
    if per.size == 1:
        return per.reshape(())
    if block:
        return np.repeat(per, block, axis=axis).take(np.arange(q.shape[axis]), axis=axis)
    return per.reshape([-1 if i == axis % q.ndim else 1 for i in range(q.ndim)])


def _keep_weight(graph: ir.Graph, node: ir.Node) -> None:
    """Bring a quantized weight into our form: int8 around zero, one scale per output channel."""
    value = node.inputs[1]
    source = value.producer() if value is not None else None
    moved = source if source is not None and g.is_op(source, "Transpose") else None
    if moved is not None and moved.inputs[0] is not None:
        source = moved.inputs[0].producer()
    real = dequantized(source)
    if value is None or source is None or real is None:
        return
    order = g.attribute(moved, "perm", None) if moved is not None else range(real.ndim)
    order = list(order) if order is not None else list(range(real.ndim))[::-1]
    axes = weight_axes(node)
    kept = _levels(source, order[axes.channel]) if axes is not None else None
    if kept is None or axes is None:  # no int8 around zero: rounded like float weights
        weight = g.add_initializer(graph, f"{value.name}_float", real.transpose(order))
        node.replace_input_with(1, weight)
        return
    q, scale = kept
    inputs = [
        g.add_initializer(graph, f"{value.name}_int8", np.ascontiguousarray(q.transpose(order))),
        g.add_initializer(graph, f"{value.name}_scale", scale),
    ]
    attributes = {"axis": axes.channel}
    out = g.insert_node(graph, node, "DequantizeLinear", inputs, f"{value.name}_kept", attributes)
    out.shape, out.dtype = ir.Shape(inputs[0].shape or ()), ir.DataType.FLOAT
    node.replace_input_with(1, out)


def _levels(source: ir.Node, channel: int) -> tuple[Array, Array] | None:
    """int8 levels and a scale for each channel; None where the form cannot be kept."""
    q, scale, zero = _constants(source)
    axis = g.attribute(source, "axis", 1)
    if q is None or scale is None or g.attribute(source, "block_size", 0):
        return None
    if scale.size > 1 and axis % q.ndim != channel:
        return None
    levels = q.astype(np.int32)
    if zero is not None:
        levels = levels - _spread(zero.astype(np.int32), q, axis, 0)
    if levels.size == 0 or levels.min() < -LIMIT - 1 or levels.max() > LIMIT:
        return None
    levels = np.maximum(levels, -LIMIT)  # the kernels' range lacks -128: one step of one weight
    spread = np.broadcast_to(scale.reshape(-1), q.shape[channel])
    return levels.astype(np.int8), np.ascontiguousarray(spread)


def _drop_pair(graph: ir.Graph, quantize: ir.Node, nonnegative: set[str]) -> None:
    """Let the readers of DequantizeLinear(QuantizeLinear(x)) read x."""
    x = quantize.inputs[0]
    found = _ends(quantize.outputs[0], _parameters(quantize))
    if x is None or found is None or not found[0]:
        return
    ends, inside = found
    for value in inside:
        value.dtype = ir.DataType.FLOAT
    bounds = _bounds(quantize)
    if bounds is not None and bounds[0] == 0 and _may_be_negative(x, nonnegative):
        limits = [
            g.add_initializer(graph, f"{quantize.name}_{key}", np.float32(bound))  # type: ignore[arg-type]
            for key, bound in zip(("lo", "hi"), bounds, strict=True)
        ]
        clipped = g.insert_node(graph, quantize, "Clip", [x, *limits], f"{x.name}_clipped")
        clipped.shape, clipped.dtype = x.shape, ir.DataType.FLOAT
        x = clipped
    g.replace_value(quantize.outputs[0], x)
    for end in ends:
        real = end.inputs[0]
        assert real is not None
        if end.outputs[0].is_graph_output() and (real.producer() is None or real.is_graph_output()):
            name = f"{end.outputs[0].name}_real"
            real = g.insert_node(graph, end, "Identity", [real], name)
        g.replace_value(end.outputs[0], real)


def _ends(
    levels: ir.Value, parameters: list[Array] | None
) -> tuple[list[ir.Node], list[ir.Value]] | None:
    """The DequantizeLinear nodes behind levels that are only moved, and the values on the way.

    None where something else reads them.
    """
    if parameters is None or levels.is_graph_output():
        return None
    ends: list[ir.Node] = []
    inside = [levels]
    for reader, _ in levels.uses():
        if g.is_op(reader, "DequantizeLinear"):
            others = _parameters(reader)
            same = others is not None and len(others) == len(parameters)
            if not same or any(
                (a != b).any() for a, b in zip(others or [], parameters, strict=True)
            ):
                return None
            ends.append(reader)
            continue
        if (
            not g.is_op(reader, *_MOVES)
            or reader.inputs[0] is not levels
            or len(reader.outputs) > 1
        ):
            return None
        if g.is_op(reader, "Concat"):  # its other parts are levels as well
            return None
        found = _ends(reader.outputs[0], parameters)
        if found is None:
            return None
        ends, inside = ends + found[0], inside + found[1]
    return ends, inside


def _parameters(node: ir.Node) -> list[Array] | None:
    """Scale and zero point (0 without one), None where they are not constant."""
    found = [g.constant(v) for v in node.inputs[1:3] if v is not None]
    if any(a is None for a in found):
        return None
    arrays = [a.reshape(-1) for a in found if a is not None]
    return arrays if len(arrays) == 2 else [*arrays, np.zeros(1, np.int64)]


def _bounds(quantize: ir.Node) -> tuple[float, float] | None:
    """Smallest and largest value that a quantized tensor can stand for."""
    scale = g.constant(quantize.inputs[1])
    zero = g.constant(quantize.inputs[2]) if len(quantize.inputs) > 2 else np.zeros(1, np.uint8)
    if scale is None or zero is None or scale.size != 1 or zero.dtype.kind not in "iu":
        return None
    info, level, step = np.iinfo(zero.dtype), int(zero.reshape(-1)[0]), float(scale.reshape(-1)[0])
    return (info.min - level) * step, (info.max - level) * step


def _may_be_negative(x: ir.Value, nonnegative: set[str]) -> bool:
    """Whether an operator computed the value and may have given negative ones."""
    maker = x.producer()
    return maker is not None and x.name not in nonnegative and not g.is_op(maker, *_MOVES)


def _fold_bias(graph: ir.Graph, node: ir.Node) -> None:
    """A dequantized constant that is no product's weight becomes a float constant."""
    out = node.outputs[0]
    if any(i == 1 and weight_axes(reader) is not None for reader, i in out.uses()):
        return
    large = any(g.is_op(reader, "Gather") for reader, _ in out.uses())  # a table stays small
    array = None if large or out.is_graph_output() else dequantized(node)
    if array is not None:
        g.replace_value(out, g.add_initializer(graph, f"{out.name}_float", array))
