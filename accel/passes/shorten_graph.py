"""Write a graph with fewer bytes: short names for stored tensors, no attributes that only repeat
what the standard assumes, biases whose last bits are zeros, tensors of a type side by side.

In a small network the names of weights, each written four times, and the attributes take more than
one percent of the file. Nodes other than DequantizeLinear and what they compute keep their names.
Twelve bits of a bias are finer than what rounded weights add to it; the zeros behind compress, and
so do tensors of one type where no other lies between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g

BIAS_ZEROS = 12  # last bits of the 24 of a float32

Array = np.ndarray[Any, Any]


def shorten_graph(model: ir.Model) -> ir.Model:
    """Shorten in place: ``w3`` and its like are unused so far, in subgraphs too."""
    _shorten_biases(model.graph)
    g.drop_unused(model)
    taken = _names(model.graph)
    _sort_by_type(model.graph)
    short = (name for i in count() if (name := f"w{i}") not in taken)
    for value in list(model.graph.initializers.values()):
        if not value.is_graph_input() and not value.is_graph_output():
            value.name = next(short)
    for node in model.graph:
        if g.is_op(node, "DequantizeLinear") and not node.outputs[0].is_graph_output():
            node.outputs[0].name = node.name = next(short)
        if g.is_op(node, "Conv"):
            _drop_defaults(node)
    return model


def _sort_by_type(graph: ir.Graph) -> None:
    held = sorted(graph.initializers.values(), key=lambda v: v.dtype or 0)
    graph.initializers.clear()
    for value in held:
        graph.initializers.add(value)


def _shorten_biases(graph: ir.Graph) -> None:
    """Round what Conv and Gemm add, where nobody else sees it."""
    made: dict[ir.Value, ir.Value] = {}
    for node in graph:
        value = node.inputs[2] if g.is_op(node, "Conv", "Gemm") and len(node.inputs) > 2 else None
        bias = g.constant(value)
        if value is None or bias is None or bias.dtype != np.float32:
            continue
        if value not in made:
            made[value] = g.add_initializer(graph, f"{value.name}_short", _rounded(bias))
        node.replace_input_with(2, made[value])


def _rounded(bias: Array) -> Array:
    unit = np.uint32(1 << BIAS_ZEROS)
    bits = np.ascontiguousarray(bias).view(np.uint32)
    short = ((bits + unit // 2) & ~(unit - 1)).view(np.float32)
    rounded: Array = np.where(np.isfinite(short), short, bias)
    return rounded


def _names(graph: ir.Graph) -> set[str | None]:
    """Names of all values, those inside of subgraphs included."""
    return {v.name for v in graph.inputs} | set(graph.initializers) | set(_made(graph))


def _made(graph: ir.Graph) -> Iterator[str | None]:
    for node in graph:
        yield from (o.name for o in node.outputs)
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _names(attribute.as_graph())


def _drop_defaults(conv: ir.Node) -> None:
    """Attributes of a Conv that say what their absence says too."""
    weight = g.known_shape(conv.inputs[1]) if conv.inputs[1] is not None else None
    if weight is None:
        return
    sides = len(weight) - 2
    defaults = {
        "auto_pad": "NOTSET", "group": 1, "kernel_shape": weight[2:],
        "strides": (1,) * sides, "dilations": (1,) * sides, "pads": (0,) * 2 * sides,
    }  # fmt: skip
    for key, default in defaults.items():
        if g.attribute(conv, key, None) == default:
            del conv.attributes[key]
