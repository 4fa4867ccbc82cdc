"""The host's part of a schedule: nodes outside our kernels as few ONNX Runtime subgraphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from accel import graph as g
from accel.schedule import Call, HostGroup, OwnCall
from accel.workload import node_macs


def needed_nodes(graph: ir.Graph, claimed: set[ir.Node], calls: Sequence[OwnCall]) -> list[ir.Node]:
    """Unclaimed nodes whose results something needs, in graph order."""
    needed = {v.name for v in graph.outputs} | {name for c in calls for name in c.reads}
    kept = []
    for node in reversed(list(graph)):
        if node not in claimed and any(o.name in needed for o in node.outputs):
            kept.append(node)
            needed.update(g.names_read(node))
    return kept[::-1]


def ordered(model: ir.Model, calls: Sequence[OwnCall], host: list[ir.Node]) -> Iterator[Call]:
    """All ready host nodes as one group, then all ready kernel calls, and so on: few groups."""
    ready = {v.name for v in g.data_inputs(model.graph)} | set(model.graph.initializers) | {""}
    waiting_calls, waiting_nodes = list(calls), list(host)
    while waiting_calls or waiting_nodes:
        group = []
        for node in waiting_nodes:
            if g.names_read(node) <= ready:
                group.append(node)
                ready.update(o.name for o in node.outputs)
        if group:
            waiting_nodes = [n for n in waiting_nodes if n not in set(group)]
            yield _host_group(model, group, waiting_nodes, calls)
        ready_calls = [c for c in waiting_calls if set(c.reads) <= ready]
        if not group and not ready_calls:
            raise AssertionError("the graph is not in topological order")  # the importer sorts
        yield from ready_calls
        ready.update(c.y for c in ready_calls)
        waiting_calls = [c for c in waiting_calls if c.y not in ready]


def _host_group(
    model: ir.Model, nodes: list[ir.Node], later: list[ir.Node], calls: Sequence[OwnCall]
) -> HostGroup:
    made = {o.name for n in nodes for o in n.outputs if o.name}
    read = set().union(*(g.names_read(n) for n in nodes))
    outside = {v.name for v in model.graph.outputs} | {r for c in calls for r in c.reads}
    outside |= set().union(*(g.names_read(n) for n in later))
    by_name = _values(model)
    inputs = sorted(n for n in read - made if n in by_name and n not in model.graph.initializers)
    outputs = sorted(n for n in made & outside if n)
    return HostGroup(
        data=g.extract(model, nodes, [by_name[n] for n in inputs], [by_name[n] for n in outputs]),
        nodes=tuple((n.name or "", n.op_type, node_macs(n)) for n in nodes),
        reads=tuple(inputs),
        writes=tuple(outputs),
    )


def _values(model: ir.Model) -> dict[str, ir.Value]:
    found = {v.name: v for v in model.graph.inputs if v.name}
    for node in model.graph:
        found.update({o.name: o for o in node.outputs if o.name})
    return found
