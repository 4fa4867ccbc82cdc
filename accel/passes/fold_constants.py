"""Compute once what depends on constants only: weights made by ConstantOfShape, transposed or
reshaped weights, arithmetic on constant shapes. ONNX Runtime does the computing."""

from __future__ import annotations

import onnx_ir as ir

from accel import graph as g
from accel.host import open_session, typed_errors

MAX_BYTES = 1 << 30  # of all folded values together; a hostile shape is left unfolded
_NEVER = {  # random, or the stored form of weights that are int8 already
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
    "Multinomial", "DequantizeLinear",
}  # fmt: skip


def fold_constants(model: ir.Model) -> ir.Model:
    """Replace every node whose inputs are all constant by an initializer."""
    model = g.infer_shapes(model)
    nodes = _constant_nodes(model)
    if not nodes:
        return model
    folded = set(nodes)
    wanted = [
        out
        for node in nodes
        for out in node.outputs
        if out.is_graph_output() or any(reader not in folded for reader, _ in out.uses())
    ]
    data = g.extract(model, nodes, [], wanted)
    session = open_session(data, 1, "constants")
    with typed_errors():
        found = session.run([v.name for v in wanted], {})
    for value, array in zip(wanted, found, strict=True):
        if value.is_graph_output():
            continue
        g.replace_value(value, g.add_initializer(model.graph, f"{value.name}_constant", array))
    return g.drop_unused(model)


def _constant_nodes(model: ir.Model) -> list[ir.Node]:
    """Nodes to fold, in graph order, as many as fit into the memory bound."""
    nodes: list[ir.Node] = []
    made: set[ir.Value] = set()
    room = MAX_BYTES
    for node in model.graph:
        size = _output_bytes(node)
        if not _is_foldable(node, made) or size is None or size > room:
            continue
        room -= size
        nodes.append(node)
        made.update(node.outputs)
    return nodes


def _is_foldable(node: ir.Node, made: set[ir.Value]) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type in _NEVER:
        return False
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
           for a in node.attributes.values()):  # fmt: skip
        return False
    return all(v is None or v in made or v.const_value is not None for v in node.inputs)


def _output_bytes(node: ir.Node) -> int | None:
    total = 0
    for out in node.outputs:
        shape = g.known_shape(out)
        if shape is None or min(shape, default=0) < 0 or out.dtype in (None, ir.DataType.STRING):
            return None
        count = 1
        for dimension in shape:
            count *= dimension
        total += count * max(1, int(out.dtype.itemsize))
    return total
