"""Drop the QDQ pairs between a product and its activation, for engines that fuse the two.

ONNX Runtime needs a pair on both sides of an operator that it runs in int8. OpenVINO computes a
LeakyReLU or SiLU on the sums of the convolution before it, and a pair between them would make two
passes of one.
"""

from __future__ import annotations

import onnx_ir as ir

from accel import graph as g

_ACTIVATIONS = ("LeakyRelu", "HardSwish", "Sigmoid")


def drop_inner_pairs(model: ir.Model) -> ir.Model:
    """Let activations read products directly; every other pair stays."""
    for node in list(model.graph):
        pair = _pair_behind(node.outputs[0]) if node.outputs else None
        if pair is not None and g.is_op(node, "Conv", "Sigmoid") and _is_inner(node, pair):
            g.replace_value(pair, node.outputs[0])
    return g.drop_unused(model)


def _pair_behind(value: ir.Value) -> ir.Value | None:
    """What the only pair behind a value gives."""
    quantize = g.only_consumer(value)
    if quantize is None or not g.is_op(quantize, "QuantizeLinear"):
        return None
    dequantize = g.only_consumer(quantize.outputs[0])
    real = dequantize.outputs[0] if g.is_op(dequantize, "DequantizeLinear") and dequantize else None
    return None if real is None or real.is_graph_output() else real


def _is_inner(node: ir.Node, real: ir.Value) -> bool:
    readers = [reader for reader, _ in real.uses()]
    if g.is_op(node, "Sigmoid"):  # of a SiLU: the product reads what the sigmoid reads
        return (
            len(readers) == 1 and g.is_op(readers[0], "Mul") and node.inputs[0] in readers[0].inputs
        )
    return all(g.is_op(r, *_ACTIVATIONS) or _is_gate(r, real) for r in readers)


def _is_gate(node: ir.Node, real: ir.Value) -> bool:
    """Whether the node is the product of a value and its sigmoid, a pair on that one allowed."""
    if not g.is_op(node, "Mul"):
        return False
    other = next((v for v in node.inputs if v is not real), None)
    maker = other.producer() if other is not None else None
    for op_type in ("DequantizeLinear", "QuantizeLinear"):
        if maker is not None and g.is_op(maker, op_type) and maker.inputs[0] is not None:
            maker = maker.inputs[0].producer()
    return maker is not None and g.is_op(maker, "Sigmoid") and maker.inputs[0] is real
