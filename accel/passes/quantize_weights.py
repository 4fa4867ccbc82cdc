"""Replace the weights of Conv, Gemm and MatMul by int8 behind DequantizeLinear.

The form is standard ONNX (opset 21): one scale per output channel, or, with a weight window,
one scale per output channel and block of input channels (``block_size``). Symmetric, values in
[-127, 127]; how they are rounded is in `round_weights`; no calibration data.

Some convolutions of few weights get more levels than that, as int16 (`choose_fine`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.passes.choose_fine import choose_fine
from accel.passes.correct_bias import correct_bias, mean_inputs
from accel.passes.round_weights import round_weights

MIN_BLOCKED_CHANNELS = 16  # a scale for fewer weights costs more than it gives
EXACT = 1e-6  # of the largest weight: nothing was rounded

Array = np.ndarray[Any, Any]


class WeightAxes(NamedTuple):
    """Which axis of a weight tensor counts output channels, which counts K."""

    channel: int
    k: int


def weight_axes(node: ir.Node) -> WeightAxes | None:
    """Axes of the constant weight of a product node; None where it is not such a node."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return None
    shape = g.shape_of(node.inputs[1])
    if g.is_op(node, "Conv") and shape is not None and len(shape) in (3, 4):
        return WeightAxes(0, 1)
    if g.is_op(node, "MatMul") and shape is not None and len(shape) == 2:
        return WeightAxes(1, 0)
    if g.is_op(node, "Gemm") and not g.attribute(node, "transA", 0):
        return WeightAxes(0, 1) if g.attribute(node, "transB", 0) else WeightAxes(1, 0)
    return None


def quantize_weights(
    model: ir.Model, weight_window: int | None, per_channel: bool = False
) -> ir.Model:
    """Quantize every constant float32 weight of a Conv, Gemm or MatMul in place.

    Parameters
    ----------
    weight_window : input channels that share a scale; None: one scale per output channel.
    per_channel : no exceptions, as the int8 kernels of other engines want it.
    """
    done: dict[tuple[str, int, int | None, int], tuple[ir.Value, Array]] = {}
    means = mean_inputs(model)
    factors = {} if per_channel else choose_fine(model)
    for node in list(model.graph):
        axes = weight_axes(node)
        weight = g.constant(node.inputs[1]) if axes is not None else None
        if axes is None or weight is None or weight.dtype != np.float32 or weight.size == 0:
            continue
        if g.is_op(node, "Gemm"):
            weight = _absorb_gemm_factors(model.graph, node, weight)
        factor = factors.get(node, 1)
        if factor > 1 and _is_int8(weight):
            factor = 1
        block = None if per_channel or factor > 1 else _block(weight, axes, weight_window)
        source = node.inputs[1]
        assert source is not None
        key = (source.name or "", axes.channel, block, factor)
        if key not in done:
            name = source.name or "w"
            quantized = quantize_array(weight, axes, block, factor)
            done[key] = _insert_dequantize(model.graph, node, name, weight, axes, block, quantized)
        made, error = done[key]
        correct_bias(model.graph, node, error, means)
        node.replace_input_with(1, made)
    return g.drop_unused(model)


def _is_int8(weight: Array) -> bool:
    """Whether the filters of a convolution are int8 already, in float."""
    q, scale = quantize_array(weight, WeightAxes(0, 1), None)
    error = np.abs(weight - q * scale.reshape(-1, 1, 1, 1)).max()
    return bool(error <= EXACT * np.abs(weight).max())


def _block(weight: Array, axes: WeightAxes, window: int | None) -> int | None:
    """Input channels that share a scale; None: one scale for each output channel."""
    if window is not None and weight.shape[axes.k] < max(window, MIN_BLOCKED_CHANNELS):
        return None  # one scale for each tap would serve fewer weights than were asked for
    return window


def quantize_array(
    w: Array, axes: WeightAxes, block: int | None, factor: int = 1
) -> tuple[Array, Array]:
    """Quantize one weight tensor.

    Parameters
    ----------
    w : float32, any shape.
    axes : its channel and K axes.
    block : elements along K that share a scale, or None for one scale per channel.
    factor : how many times the levels of int8 there are.

    Returns
    -------
    q : int8, the shape of w, in [-127, 127]; int16 where there are more levels.
    scale : float32, (channels,) or the shape of w with ceil(K / block) along K.
    """
    filters = np.moveaxis(w, (axes.channel, axes.k), (0, 1))
    n, k = filters.shape[:2]
    q, scale = round_weights(np.ascontiguousarray(filters).reshape(n, k, -1), block, factor)
    q = np.moveaxis(q.reshape(filters.shape), (0, 1), (axes.channel, axes.k))
    if block is not None:
        blocks = scale.reshape(n, -1, *filters.shape[2:])
        scale = np.moveaxis(blocks, (0, 1), (axes.channel, axes.k))
    return np.ascontiguousarray(q), np.ascontiguousarray(scale)


def _insert_dequantize(
    graph: ir.Graph,
    node: ir.Node,
    name: str,
    weight: Array,
    axes: WeightAxes,
    block: int | None,
    quantized: tuple[Array, Array],
) -> tuple[ir.Value, Array]:
    """The value that stands for a weight, and what it lacks of it."""
    q, scale = quantized
    q_value = g.add_initializer(graph, f"{name}_{q.dtype.name}", q)
    s_value = g.add_initializer(graph, f"{name}_scale", scale)
    attributes = {"axis": axes.channel} if block is None else {"axis": axes.k, "block_size": block}
    inputs, output = [q_value, s_value], f"{name}_real"
    out = g.insert_node(graph, node, "DequantizeLinear", inputs, output, attributes)
    out.shape, out.dtype = ir.Shape(weight.shape), ir.DataType.FLOAT
    if block is None:
        unit = scale.reshape([-1 if i == axes.channel else 1 for i in range(q.ndim)])
    else:
        unit = np.repeat(scale, block, axis=axes.k).take(np.arange(q.shape[axes.k]), axis=axes.k)
    return out, weight - q * unit


def _absorb_gemm_factors(graph: ir.Graph, node: ir.Node, weight: Array) -> Array:
    alpha, beta = g.attribute(node, "alpha", 1.0), g.attribute(node, "beta", 1.0)
    bias = g.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if beta != 1.0 and bias is None and len(node.inputs) > 2 and node.inputs[2] is not None:
        return weight
    if alpha != 1.0:
        node.attributes["alpha"] = ir.AttrFloat32("alpha", 1.0)
        weight = weight * np.float32(alpha)
    if beta != 1.0 and bias is not None:
        node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
        scaled = g.add_initializer(graph, f"{node.name}_bias", bias * np.float32(beta))
        node.replace_input_with(2, scaled)
    return weight
