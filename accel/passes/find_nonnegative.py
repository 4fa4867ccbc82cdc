"""Find the values that are never negative; their windows need no sign and gain one bit."""

from __future__ import annotations

import onnx_ir as ir

from accel import graph as g

_ALWAYS = {"Relu", "Sigmoid", "Softmax", "Exp", "Abs", "HardSigmoid", "Softplus", "Sqrt"}
_KEEPS = {  # no less than zero when every data input is
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Concat", "Add", "Reshape",
    "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Identity", "Dropout", "Split",
    "ReduceMean", "ReduceMax", "LRN", "Expand", "DepthToSpace", "SpaceToDepth",
    "DequantizeLinear", "QuantizeLinear",  # of levels: no less than their zero point
}  # fmt: skip
_FIRST_ONLY = {
    "Reshape", "Slice", "Squeeze", "Unsqueeze", "Split", "Expand", "ReduceMean",
    "DequantizeLinear", "QuantizeLinear",
}  # fmt: skip


def find_nonnegative(model: ir.Model) -> set[str]:
    """Names of the values that cannot be negative, whatever the input.

    Source: interval reasoning on operator definitions of the ONNX standard.
    """
    found: set[str] = set()
    for value in model.graph.initializers.values():
        array = g.constant(value)
        if array is not None and array.dtype.kind == "f" and array.size and (array >= 0).all():
            found.add(value.name or "")
    for node in model.graph:
        if node.domain in ("", "ai.onnx") and _is_nonnegative(node, found):
            found.update(o.name for o in node.outputs if o.name)
    return found


def _is_nonnegative(node: ir.Node, found: set[str]) -> bool:
    op = node.op_type
    inputs = [v for v in node.inputs if v is not None]
    if op in _ALWAYS:
        return True
    if op == "Cast":
        source = inputs[0].dtype
        return (source is not None and "UINT" in source.name) or inputs[0].name in found
    if op == "Clip":
        low = g.constant(inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
        return low is not None and bool((low >= 0).all())
    if op == "QuantizeLinear" and len(node.inputs) > 2:
        zero = g.constant(node.inputs[2])
        if zero is not None and zero.dtype.kind == "u" and not zero.any():
            return True
    if op == "Pad":
        fill = node.inputs[2] if len(node.inputs) > 2 else None
        zero_fill = fill is None or g.attribute(node, "mode", "constant") != "constant"
        return inputs[0].name in found and (fill is None or zero_fill or fill.name in found)
    if op == "Resize":
        return inputs[0].name in found and g.attribute(node, "mode", "nearest") != "cubic"
    if op in _FIRST_ONLY:
        return inputs[0].name in found
    return op in _KEEPS and bool(inputs) and all(v.name in found for v in inputs)
