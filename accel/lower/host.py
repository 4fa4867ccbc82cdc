"""The host's part of a schedule: nodes outside our kernels as few ONNX Runtime subgraphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Generic, TypeVar

import onnx_ir as ir

from accel import graph as g
from accel.schedule import Call, HostGroup, OwnCall
from accel.workload import node_macs

T = TypeVar("T")


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
    groups = _Groups(model, calls, host)
    nodes = _Waiting((node, g.names_read(node)) for node in host)
    own = _Waiting((call, set(call.reads)) for call in calls)
    left = len(host) + len(calls)

    def tell(made: Iterable[str | None]) -> None:
        for name in made:
            nodes.tell(name)
            own.tell(name)

    tell([*(v.name for v in g.data_inputs(model.graph)), *model.graph.initializers, ""])
    while left:
        group = []
        while nodes.ready:
            node = nodes.take()
            group.append(node)
            tell(o.name for o in node.outputs)
        if group:
            yield groups.of(group)
        wave = [own.take() for _ in range(len(own.ready))]
        yield from wave
        tell(call.y for call in wave)
        if not group and not wave:
            raise AssertionError("the graph is not in topological order")  # the importer sorts
        left -= len(group) + len(wave)


class _Waiting(Generic[T]):
    """Items that wait for the values that they read.

    Attributes
    ----------
    ready : numbers of those that wait for nothing any more, a heap.
    """

    def __init__(self, items: Iterable[tuple[T, set[str]]]) -> None:
        self._items: list[T] = []
        self._missing: list[int] = []
        self._readers: dict[str, list[int]] = {}
        self.ready: list[int] = []
        for number, (item, reads) in enumerate(items):
            self._items.append(item)
            self._missing.append(len(reads))
            for name in reads:
                self._readers.setdefault(name, []).append(number)
            if not reads:
                heappush(self.ready, number)

    def tell(self, name: str | None) -> None:
        """A value is there."""
        for number in self._readers.pop(name or "", ()):
            self._missing[number] -= 1
            if not self._missing[number]:
                heappush(self.ready, number)

    def take(self) -> T:
        """The first of the items that are ready."""
        return self._items[heappop(self.ready)]


class _Groups:
    """Makes subgraphs; knows who reads what of the whole graph."""

    def __init__(self, model: ir.Model, calls: Sequence[OwnCall], host: list[ir.Node]) -> None:
        self._model = model
        self._values = _values(model)
        self._wanted = {v.name for v in model.graph.outputs} | {r for c in calls for r in c.reads}
        self._readers: dict[str, list[ir.Node]] = {}
        for node in host:
            for name in g.names_read(node):
                self._readers.setdefault(name, []).append(node)

    def of(self, nodes: list[ir.Node]) -> HostGroup:
        """Some nodes as one subgraph."""
        inside = set(nodes)
        made = {o.name for n in nodes for o in n.outputs if o.name}
        read = set().union(*(g.names_read(n) for n in nodes))
        stored = self._model.graph.initializers
        inputs = sorted(n for n in read - made if n in self._values and n not in stored)
        outputs = sorted(n for n in made if n in self._wanted or self._leaves(n, inside))
        values = self._values
        return HostGroup(
            data=g.extract(
                self._model, nodes, [values[n] for n in inputs], [values[n] for n in outputs]
            ),
            nodes=tuple((n.name or "", n.op_type, node_macs(n)) for n in nodes),
            reads=tuple(inputs),
            writes=tuple(outputs),
        )

    def _leaves(self, name: str, inside: set[ir.Node]) -> bool:
        return any(reader not in inside for reader in self._readers.get(name, ()))


def _values(model: ir.Model) -> dict[str, ir.Value]:
    found = {v.name: v for v in model.graph.inputs if v.name}
    for node in model.graph:
        found.update({o.name: o for o in node.outputs if o.name})
    return found
