"""Where the operators of a network run: in the array, beside it, or on the host.

Source: tables of operators in the Xilinx product guides PG338 and PG367.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx_ir as ir

from accel import graph as g
from accel.workload import PRODUCTS, node_macs

BESIDE_ARRAY = frozenset(
    {
        "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "Identity",
        "LeakyRelu", "MaxPool", "Pad", "Relu", "Reshape", "Resize", "Slice", "Split", "Squeeze",
        "Transpose", "Unsqueeze", "Upsample",
    }
)  # fmt: skip
"""Units beside the array do these while it multiplies."""

FOLDED = frozenset(
    {
        "BatchNormalization", "Cast", "Constant", "ConstantOfShape", "DequantizeLinear", "Dropout",
        "DynamicQuantizeLinear", "QuantizeLinear", "Shape", "Size",
    }
)  # fmt: skip
"""These become part of their neighbours before anything runs."""

HOST_MACS_PER_S = 2e10  # assumed: one core, float32
HOST_NODE_S = 5e-6  # assumed: what one operator costs ONNX Runtime


def host_node_s(macs: int) -> float:
    """Return the seconds an operator takes on the host, for all of its multiplications."""
    return HOST_NODE_S + macs / HOST_MACS_PER_S


def host_operators(graph: ir.Graph, dense: bool) -> tuple[Counter[str], float]:
    """Return the operators that an engine lacks, and the seconds they take on the host.

    `dense` tells whether the engine does Gemm and MatMul. The graph's shapes are fixed; what only
    computes shapes costs nothing.
    """
    lacking: Counter[str] = Counter()
    seconds = 0.0
    for node in graph:
        if not _on_host(node, dense):
            continue
        lacking[node.op_type] += 1
        seconds += host_node_s(node_macs(node))
    return lacking, seconds


def _on_host(node: ir.Node, dense: bool) -> bool:
    if g.is_op(node, *PRODUCTS):
        return not dense and g.is_op(node, "Gemm", "MatMul")
    if g.is_op(node, *BESIDE_ARRAY) or g.is_op(node, *FOLDED):
        return False
    return not _is_shape(node.outputs[0])


def _is_shape(value: ir.Value) -> bool:
    """Whether a value is a list of dimensions, or a constant that nothing in an image changes."""
    shape: Any = value.shape
    return value.dtype == ir.DataType.INT64 and shape is not None and len(shape) <= 1
