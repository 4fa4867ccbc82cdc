"""Compute once what depends on shapes that are known: exporters write reshapes as arithmetic on the
shape of a value, which is a constant once the batch is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.passes.fold_constants import fold_constants


def fold_shapes(model: ir.Model) -> ir.Model:
    """Replace every Shape of a known shape, and what is computed from it, by an initializer."""
    known = [
        (node, shape)
        for node in model.graph
        if g.is_op(node, "Shape")
        and node.inputs[0] is not None
        and (shape := g.known_shape(node.inputs[0])) is not None
        and not node.outputs[0].is_graph_output()
    ]
    for node, shape in known:
        part = shape[g.attribute(node, "start", 0) : g.attribute(node, "end", None)]
        value = node.outputs[0]
        array = np.array(part, np.int64)
        g.replace_value(value, g.add_initializer(model.graph, f"{value.name}_shape", array))
    return fold_constants(g.drop_unused(model)) if known else model
