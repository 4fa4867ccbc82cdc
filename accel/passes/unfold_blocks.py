"""Put float weights in the place of blocked DequantizeLinear nodes whose last block is short,
for engines that take only whole blocks."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from accel import graph as g


def unfold_blocks(model: ir.Model) -> ir.Model:
    """Dequantize such weights once; every other node stays as it is."""
    for node in list(model.graph):
        block = g.attribute(node, "block_size", 0) if g.is_op(node, "DequantizeLinear") else 0
        if not block:
            continue
        q, scale = g.constant(node.inputs[0]), g.constant(node.inputs[1])
        axis = g.attribute(node, "axis", 1)
        if q is None or scale is None or q.shape[axis] % block == 0:
            continue
        spread = np.repeat(scale, block, axis=axis).take(np.arange(q.shape[axis]), axis=axis)
        weight = g.add_initializer(model.graph, f"{node.name}_float", q * spread)
        g.replace_value(node.outputs[0], weight)
    return g.drop_unused(model)
