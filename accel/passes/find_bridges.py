"""Find the convolutions that no shortcut leads around.

Where an addition joins two branches, each is a way around what lies in the other alone. In a
network of such blocks all that follows sees the errors of the few convolutions between them: 20 of
56 in a detector made three fifths of what rounded weights add to its heads, in power.
"""

from __future__ import annotations

import onnx_ir as ir

from accel import graph as g


def find_bridges(model: ir.Model) -> set[ir.Node]:
    """Those of one group; none where they are more than half: then no one of them sticks out."""
    nodes = [node for node in model.graph if g.is_op(node, "Conv")]
    convolutions = [node for node in nodes if g.attribute(node, "group", 1) == 1]
    around = _with_way_around(model)
    bridges = {node for node in convolutions if not around >> node.meta[PLACE] & 1}
    return bridges if 2 * len(bridges) <= len(convolutions) else set()


PLACE = "place"  # of a node in the graph


def _with_way_around(model: ir.Model) -> int:
    """Nodes of one branch of an addition alone; a bit for each, by its place."""
    behind: dict[ir.Value, int] = {}  # of each value: the nodes that it is made from
    found = 0
    for place, node in enumerate(model.graph):
        node.meta[PLACE] = place
        branches = [behind.get(v, 0) for v in node.inputs if v is not None]
        if g.is_op(node, "Add") and len(branches) == 2 and all(branches):
            found |= branches[0] ^ branches[1]
        made = 1 << place
        for branch in branches:
            made |= branch
        behind.update((out, made) for out in node.outputs)
    return found
