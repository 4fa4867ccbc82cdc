"""Store embedding tables as int8: a quarter of the bytes, and only rows that are looked up are ever
made float.

With one scale for each row, Gather(table, i) becomes Cast(Gather(levels, i)) * Gather(scales, i).
In short rows those scales would take up to a half of the levels' room: even rows share one for each
column, Cast(Gather(levels, i)) * scales + offsets. The offsets, below one step, make the first row
exact: by custom it pads texts, so it is looked up most, and its error would not average out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from accel import graph as g

MIN_ROWS, MIN_COLUMNS = 256, 8  # smaller ones gain little
LONG_ROW = 128  # columns whose scale takes 1 % of their float bytes at most
EVEN = 8.0  # largest entry of a table over that of its median row, up to which columns serve
LIMIT = 127

Array = np.ndarray[Any, Any]


class _Table(NamedTuple):
    """int8 levels (N, D); float32 scales (N, 1), or scales and offsets (D,)."""

    levels: Array
    scales: Array
    offsets: Array | None = None


def quantize_tables(model: ir.Model) -> ir.Model:
    """Rewrite every Gather from rows of a large constant float32 matrix in place."""
    stored: dict[str, list[ir.Value]] = {}
    for node in list(model.graph):
        array = _array(node)
        if array is None or node.inputs[0] is None:
            continue
        name = node.inputs[0].name or "table"
        if name not in stored:
            stored[name] = [
                g.add_initializer(model.graph, f"{name}_{part}", values)
                for part, values in _quantized(array)._asdict().items()
                if values is not None
            ]
        _rewrite(model.graph, node, *stored[name])
    return g.drop_unused(model)


def _array(node: ir.Node) -> Array | None:
    if not g.is_op(node, "Gather") or g.attribute(node, "axis", 0) != 0:
        return None
    array = g.constant(node.inputs[0])
    if array is None or array.dtype != np.float32 or array.ndim != 2:
        return None
    large = array.shape[0] >= MIN_ROWS and array.shape[1] >= MIN_COLUMNS
    return array if large and np.isfinite(array).all() else None


def _quantized(array: Array) -> _Table:
    peak = np.abs(array).max(axis=1)
    if array.shape[1] >= LONG_ROW or peak.max() > EVEN * np.median(peak):
        scales = _scales(peak[:, None] / np.float32(LIMIT))
        return _Table(np.rint(array / scales).astype(np.int8), scales)
    scales = _scales(np.abs(array).max(axis=0) / np.float32(LIMIT - 0.5))
    offsets = array[0] - np.rint(array[0] / scales) * scales
    return _Table(np.rint((array - offsets) / scales).astype(np.int8), scales, offsets)


def _scales(step: Array) -> Array:
    return np.where(step < np.float32(2.0**-107), 1, step).astype(np.float32)


def _rewrite(
    graph: ir.Graph, node: ir.Node, levels: ir.Value, scales: ir.Value,
    offsets: ir.Value | None = None,
) -> None:  # fmt: skip
    out, rows = node.outputs[0], node.inputs[1]
    assert rows is not None

    def put(op: str, inputs: list[ir.Value], part: str, **attributes: Any) -> ir.Value:
        return g.insert_node(graph, node, op, inputs, f"{out.name}_{part}", attributes)

    taken = put("Gather", [levels, rows], "int8")
    y = put("Cast", [taken], "levels", to=ir.DataType.FLOAT.value)
    if offsets is None:
        scales = put("Gather", [scales, rows], "scale")
    y = put("Mul", [y, scales], "real")
    if offsets is not None:
        y = put("Add", [y, offsets], "shifted")
    y.shape, y.dtype = out.shape, ir.DataType.FLOAT
    g.replace_value(out, y)
