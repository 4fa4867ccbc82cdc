"""Store embedding tables as int8 with one scale for each row.

Gather(table, i) becomes Cast(Gather(levels, i)) * Gather(scales, i): a quarter of the bytes, and
only the rows that are looked up are ever made float.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g

MIN_ROWS, MIN_COLUMNS = 256, 32  # smaller ones gain little, and short rows lose most
LIMIT = 127

Array = np.ndarray[Any, Any]


def quantize_tables(model: ir.Model) -> ir.Model:
    """Rewrite every Gather from rows of a large constant float32 matrix in place."""
    stored: dict[str, tuple[ir.Value, ir.Value]] = {}
    for node in list(model.graph):
        table = _table(node)
        if table is None or node.inputs[0] is None:
            continue
        name = node.inputs[0].name or "table"
        if name not in stored:
            q, scale = _quantized(table)
            stored[name] = (
                g.add_initializer(model.graph, f"{name}_int8", q),
                g.add_initializer(model.graph, f"{name}_scale", scale),
            )
        _rewrite(model.graph, node, *stored[name])
    return g.drop_unused(model)


def _table(node: ir.Node) -> Array | None:
    if not g.is_op(node, "Gather") or g.attribute(node, "axis", 0) != 0:
        return None
    array = g.constant(node.inputs[0])
    if array is None or array.dtype != np.float32 or array.ndim != 2:
        return None
    large = array.shape[0] >= MIN_ROWS and array.shape[1] >= MIN_COLUMNS
    return array if large and np.isfinite(array).all() else None


def _quantized(table: Array) -> tuple[Array, Array]:
    """int8 (N, D) and float32 (N, 1)."""
    peak = np.abs(table).max(axis=1, keepdims=True)
    scale = np.where(peak < np.float32(2.0**-100), 1, peak / np.float32(LIMIT)).astype(np.float32)
    return np.rint(table / scale).astype(np.int8), scale


def _rewrite(graph: ir.Graph, node: ir.Node, levels: ir.Value, scales: ir.Value) -> None:
    out, rows = node.outputs[0], node.inputs[1]
    assert rows is not None
    taken = g.insert_node(graph, node, "Gather", [levels, rows], f"{out.name}_int8")
    real = g.insert_node(
        graph, node, "Cast", [taken], f"{out.name}_levels", {"to": ir.DataType.FLOAT.value}
    )
    scale = g.insert_node(graph, node, "Gather", [scales, rows], f"{out.name}_scale")
    y = g.insert_node(graph, node, "Mul", [real, scale], f"{out.name}_real")
    y.shape, y.dtype = out.shape, ir.DataType.FLOAT
    g.replace_value(out, y)
