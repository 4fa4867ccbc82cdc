"""Take integer operators apart: QLinearConv and its like become DequantizeLinear, the float
operator and QuantizeLinear, so that later passes know one form of quantized models only.

ConvInteger and MatMulInteger behind DynamicQuantizeLinear become the float operator on
dequantized weights: their activations get windows, as dynamic ranges do here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g

# com.microsoft operators on one tensor: inputs are x, its scale and zero point, then those of y
_UNARY = {
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
}
_BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
_OWN_ATTRIBUTES = ("channels_last", "opset")  # of com.microsoft, unknown to the float operator


def unpack_qoperators(model: ir.Model) -> ir.Model:
    """Rewrite every such operator whose form is known; others stay as they are."""
    for node in list(model.graph):
        if g.is_op(node, "QLinearConv", "QLinearMatMul"):
            _unpack_product(model.graph, node)
        elif g.is_op(node, "ConvInteger", "MatMulInteger"):
            _unpack_integer(model.graph, node)
        elif node.domain == "com.microsoft" and not g.attribute(node, "channels_last", 0):
            _unpack_contributed(model.graph, node)
    return g.drop_unused(model)


def _unpack_contributed(graph: ir.Graph, node: ir.Node) -> None:
    if node.op_type in _UNARY:
        x = _dequantized(graph, node, 0)
        _finish(graph, node, _UNARY[node.op_type], [x], 3)
    elif node.op_type in _BINARY:
        pair = [_dequantized(graph, node, 0), _dequantized(graph, node, 3)]
        _finish(graph, node, _BINARY[node.op_type], pair, 6)
    elif node.op_type == "QLinearConcat":
        parts = [_dequantized(graph, node, i) for i in range(2, len(node.inputs), 3)]
        _finish(graph, node, "Concat", parts, 0)
    elif node.op_type == "QGemm":
        _unpack_product(graph, node)


def _unpack_product(graph: ir.Graph, node: ir.Node) -> None:
    gemm, conv = node.op_type == "QGemm", node.op_type == "QLinearConv"
    bias_at, result_at = (6, 7) if gemm else (8, 6)
    bias = node.inputs[bias_at] if len(node.inputs) > bias_at and (gemm or conv) else None
    levels, x_scale, w_scale = (g.constant(v) for v in (bias, node.inputs[1], node.inputs[4]))
    if bias is not None and (levels is None or x_scale is None or w_scale is None):
        return
    channels_first = conv or (gemm and g.attribute(node, "transB", 0) == 1)
    inputs = [
        _dequantized(graph, node, 0),
        _dequantized(graph, node, 3, 0 if channels_first else 1),
    ]
    if levels is not None and x_scale is not None and w_scale is not None:
        values = levels * (x_scale.astype(np.float64) * w_scale)
        inputs.append(g.add_initializer(graph, f"{node.name}_bias", values.astype(np.float32)))
    op_type = "Gemm" if gemm else "Conv" if conv else "MatMul"
    _finish(graph, node, op_type, inputs, result_at)


def _unpack_integer(graph: ir.Graph, node: ir.Node) -> None:
    """Cast(ConvInteger(DynamicQuantizeLinear(x), w)) * (x_scale * w_scale) is Conv(x, w)."""
    quantize = node.inputs[0].producer() if node.inputs[0] is not None else None
    cast = g.only_consumer(node.outputs[0])
    last = g.only_consumer(cast.outputs[0]) if cast is not None and g.is_op(cast, "Cast") else None
    if quantize is None or cast is None or last is None:
        return
    if not g.is_op(quantize, "DynamicQuantizeLinear") or not g.is_op(last, "Mul"):
        return
    scales = next((v for v in last.inputs if v is not cast.outputs[0]), None)
    product = scales.producer() if scales is not None else None
    if product is None or not g.is_op(product, "Mul"):
        return
    others = [g.constant(v) for v in product.inputs if v is not quantize.outputs[1]]
    if len(others) != 1 or others[0] is None:
        return
    flat = others[0].reshape(-1 if others[0].size > 1 else ())
    conv = node.op_type == "ConvInteger"
    zero = node.inputs[3] if len(node.inputs) > 3 else None
    scale = g.add_initializer(graph, f"{node.name}_scale", flat)
    inputs = [v for v in (node.inputs[1], scale, zero) if v is not None]
    name, axis = f"{node.name}_weight", {"axis": 0 if conv else 1}
    w = g.insert_node(graph, node, "DequantizeLinear", inputs, name, axis)
    w.shape, w.dtype = inputs[0].shape, ir.DataType.FLOAT
    x = quantize.inputs[0]
    assert x is not None
    attributes = {k: a.value for k, a in node.attributes.items()}
    y = _float_node(graph, node, "Conv" if conv else "MatMul", [x, w], attributes)
    g.replace_value(last.outputs[0], y)


def _dequantized(graph: ir.Graph, node: ir.Node, start: int, axis: int | None = None) -> ir.Value:
    """Real values of the tensor whose levels, scale and zero point begin at this input."""
    inputs = [v for v in node.inputs[start : start + 3] if v is not None]
    attributes = {} if axis is None else {"axis": axis}
    name = f"{node.outputs[0].name}_of_{inputs[0].name}"
    value = g.insert_node(graph, node, "DequantizeLinear", inputs, name, attributes)
    value.shape, value.dtype = inputs[0].shape, ir.DataType.FLOAT
    return value


def _finish(
    graph: ir.Graph, node: ir.Node, op_type: str, inputs: list[ir.Value], result_at: int
) -> None:
    """Put the float operator in the node's place, QuantizeLinear behind it if there is a scale."""
    attributes = {k: a.value for k, a in node.attributes.items() if k not in _OWN_ATTRIBUTES}
    out, y = node.outputs[0], _float_node(graph, node, op_type, inputs, attributes)
    scale = [v for v in node.inputs[result_at : result_at + 2] if v is not None]
    if scale:
        y = g.insert_node(graph, node, "QuantizeLinear", [y, *scale], f"{out.name}_levels")
        y.shape = out.shape
    g.replace_value(out, y)


def _float_node(
    graph: ir.Graph, node: ir.Node, op_type: str, inputs: list[ir.Value], attributes: dict[str, Any]
) -> ir.Value:
    """A float operator before the node, under the node's name."""
    y = g.insert_node(graph, node, op_type, inputs, f"{node.outputs[0].name}_real", attributes)
    y.shape, y.dtype = node.outputs[0].shape, ir.DataType.FLOAT
    maker = y.producer()
    assert maker is not None
    maker.name = node.name
    return y
