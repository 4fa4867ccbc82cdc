"""Helpers on graphs: values are followed through shape inference only where memory allows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import Net

from accel import graph as g


def doubled(times: int) -> bytes:
    """A vector joined with itself again and again, and x of that shape's last number."""
    net = Net()
    vector = net.constant("two", np.array([2, 2], np.int64))
    for _ in range(times):
        vector = net.op("Concat", vector, vector, axis=0)
    last = net.op("Gather", vector, net.constant("at", np.array([-1], np.int64)))
    return net.model({"x": [4]}, {net.op("Reshape", "x", last): ["N"]})


@pytest.mark.parametrize(("times", "followed"), [(3, [False, True]), (40, [False])])
def test_values_of_vectors_are_followed_unless_they_are_too_many(
    times: int, followed: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    infer, seen = onnx.shape_inference.infer_shapes, []

    def watch(*args: object, data_prop: bool = False, **kwargs: object) -> onnx.ModelProto:
        seen.append(data_prop)
        return infer(*args, data_prop=data_prop, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", watch)
    fixed = g.fix_shapes(g.from_bytes(doubled(times)), {"x": (4,)})
    assert seen == followed
    lengths = {o.name: g.shape_of(o) for node in fixed.graph for o in node.outputs}
    assert (2 << times,) in lengths.values()


def test_initializers_never_take_a_name_of_the_graph() -> None:
    net = Net()
    y = net.op("Relu", net.op("Neg", "x"))
    graph = g.from_bytes(net.model({"x": ["N", 3]}, {y: ["N", 3]})).graph
    taken = g.names(graph)
    first = next(iter(graph))
    g.insert_node(graph, first, "Identity", [graph.inputs[0]], "extra")
    for name in (*sorted(taken), "extra", "extra"):
        made = g.add_initializer(graph, name, np.zeros(1, np.float32)).name
        assert made not in taken
        taken.add(str(made))
    assert g.names(graph) == taken | {"extra"}
