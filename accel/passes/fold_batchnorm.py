"""Fold BatchNormalization into the convolution before it.

    y = (conv(x, w) + b - mean) * gamma / sqrt(var + eps) + beta

is a convolution with weights ``w * k`` and bias ``(b - mean) * k + beta``,
``k = gamma / sqrt(var + eps)``. Computed in float64, stored in float32.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from accel import graph as g


def fold_batchnorm(model: ir.Model) -> ir.Model:
    """Fold every BatchNormalization whose only producer is a Conv with constant weights."""
    for node in list(model.graph):
        if g.is_op(node, "BatchNormalization"):
            _fold(model.graph, node)
    return g.drop_unused(model)


def _fold(graph: ir.Graph, bn: ir.Node) -> None:
    x = bn.inputs[0]
    conv = x.producer() if x is not None else None
    if x is None or not g.is_op(conv, "Conv") or g.only_consumer(x) is not bn:
        return
    assert conv is not None
    if g.attribute(bn, "training_mode", 0) or any(o.uses() for o in bn.outputs[1:]):
        return
    weight = g.constant(conv.inputs[1])
    params = [g.constant(v) for v in bn.inputs[1:5]]
    bias_value = conv.inputs[2] if len(conv.inputs) > 2 else None
    bias = g.constant(bias_value)
    if (
        weight is None
        or any(p is None for p in params)
        or (bias_value is not None) != (bias is not None)
    ):
        return
    gamma, beta, mean, var = (np.asarray(p, np.float64) for p in params)
    k = gamma / np.sqrt(var + g.attribute(bn, "epsilon", 1e-5))
    b = np.zeros(len(k)) if bias is None else bias.astype(np.float64)
    folded_w = weight * k.reshape(-1, *[1] * (weight.ndim - 1))
    folded_b = (b - mean) * k + beta
    w_name, out = conv.inputs[1].name, bn.outputs[0]  # type: ignore[union-attr]
    w_value = g.add_initializer(graph, f"{w_name}_folded", folded_w.astype(np.float32))
    b_value = g.add_initializer(graph, f"{conv.name}_bias", folded_b.astype(np.float32))
    conv.replace_input_with(1, w_value)
    conv.resize_inputs(3)
    conv.replace_input_with(2, b_value)
    # what the statistics say of the output's size per channel, for the choice of windows
    conv.meta["power"] = gamma**2 + beta**2
    g.replace_value(out, conv.outputs[0])
    graph.remove(bn, safe=True)
