"""Lower products of two activations, as attention has them, to calls of our kernels.

A transposition of either factor or of the result is another order of strides, and a constant factor
on any of the three another scale: nodes that are no more than that are folded in. So is a softmax
of the first factor with the addition of a mask: its sum is one more factor of the scales of a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.passes.choose_windows import WHOLE_IMAGE, is_activation_product, window_of
from accel.schedule import MatMulCall
from accel.workload import node_macs

MIN_DEPTH = 32  # the shortest window that is ever chosen; shorter rows are hardly any work


class _Side(NamedTuple):
    """A factor or the result: the value that is there, its axes in the order of the product, what
    the product is multiplied by, and the nodes between."""

    value: ir.Value
    perm: tuple[int, ...]
    scale: float
    nodes: tuple[ir.Node, ...]


class _Softmax(NamedTuple):
    """A factor that is a softmax: of what, and the mask that is added before."""

    scores: _Side
    mask: ir.Value | None


def matmul_calls(
    graph: ir.Graph, nonnegative: set[str], claimed: set[ir.Node]
) -> dict[ir.Node, MatMulCall]:
    """The calls of all such nodes; claims them with what they fold in."""
    calls: dict[ir.Node, MatMulCall] = {}
    folded: list[ir.Node] = []
    for node in graph:
        sides = _sides(node) if is_activation_product(node) else None
        window = window_of(node)
        if sides is None or not window or window == WHOLE_IMAGE:
            continue
        a, b, y = sides
        scale = float(np.float32(a.scale * b.scale * y.scale))
        if not np.isfinite(scale):
            continue
        softmax = _softmax(a)
        mask = None if softmax is None else softmax.mask
        if softmax is not None:
            a = softmax.scores
        calls[node] = MatMulCall(
            name=node.name or node.outputs[0].name or "",
            op="+".join(n.op_type for n in (*b.nodes, *a.nodes, node, *y.nodes)),
            x=a.value.name or "",
            y=y.value.name or "",
            other=b.value.name or "",
            x_perm=a.perm,
            other_perm=b.perm,
            y_perm=y.perm,
            window=window,
            signed=a.value.name not in nonnegative,
            scale=scale,
            softmax=softmax is not None,
            mask=None if mask is None else mask.name,
            macs=node_macs(node),
        )
        claimed.update([node, *y.nodes])
        folded += [*a.nodes, *b.nodes]
    _claim_unread(folded, claimed)
    return calls


def _claim_unread(folded: Iterable[ir.Node], claimed: set[ir.Node]) -> None:
    """Nodes ahead of the products that nothing else reads; the rest is still computed as well."""
    waiting = set(folded)
    found = True
    while found:
        found = False
        for node in waiting - claimed:
            out = node.outputs[0]
            if not out.is_graph_output() and all(reader in claimed for reader, _ in out.uses()):
                claimed.add(node)
                found = True


def _sides(node: ir.Node) -> tuple[_Side, _Side, _Side] | None:
    """Both factors and the result; None where our kernels do not run the node."""
    x, other = node.inputs[0], node.inputs[1]
    assert x is not None and other is not None
    a, b = _behind(x, _axes(node, x, "transA")), _behind(other, _axes(node, other, "transB"))
    y = _ahead(node)
    shapes = [g.known_shape(side.value) for side in (a, b, y)]
    if any(s is None or len(s) < 2 or 0 in s for s in shapes):
        return None
    if any(side.value.dtype != ir.DataType.FLOAT for side in (a, b, y)):
        return None
    depth = (shapes[0] or ())[a.perm[-1]]
    return (a, b, y) if depth >= MIN_DEPTH else None


def _softmax(side: _Side) -> _Softmax | None:
    """The softmax along K that a factor is, where nothing else reads it."""
    node = side.value.producer()
    rank = len(side.perm)
    if node is None or not g.is_op(node, "Softmax") or side.perm[-1] != rank - 1:
        return None
    scores = node.inputs[0]
    last = g.attribute(node, "axis", -1) in (-1, rank - 1)
    if not last or scores is None or g.only_consumer(side.value) is None:
        return None
    added = _added(scores, side.perm)
    if added is None:
        return _Softmax(side._replace(value=scores, nodes=(node, *side.nodes)), None)
    adder, source, mask = added
    return _Softmax(side._replace(value=source, nodes=(adder, node, *side.nodes)), mask)


def _added(scores: ir.Value, perm: tuple[int, ...]) -> tuple[ir.Node, ir.Value, ir.Value] | None:
    """The Add behind scores, what it adds to, and a mask that is computed."""
    node = scores.producer()
    if node is None or not g.is_op(node, "Add") or g.only_consumer(scores) is None:
        return None
    if perm != tuple(range(len(perm))):
        return None
    x, mask = node.inputs
    shape = g.known_shape(scores)
    if x is None or mask is None or shape is None:
        return None
    if g.known_shape(x) != shape:
        x, mask = mask, x
    size = g.known_shape(mask)
    if g.known_shape(x) != shape or size is None or len(size) < 2 or size[-1] != shape[-1]:
        return None
    if g.constant(x) is not None or g.constant(mask) is not None:
        return None
    return node, x, mask


def _axes(node: ir.Node, value: ir.Value, flag: str) -> tuple[int, ...]:
    """Axes of a factor as it is multiplied."""
    rank = len(g.shape_of(value) or ())
    turned = g.is_op(node, "Gemm") and g.attribute(node, flag, 0)
    return (1, 0) if turned else tuple(range(rank))


def _behind(value: ir.Value, perm: tuple[int, ...]) -> _Side:
    """What a factor is made of."""
    scale, nodes = 1.0, []
    while (node := value.producer()) is not None:
        step = _step(node, None)
        if step is None:
            break
        value, axes, factor = step
        perm, scale = tuple(axes[i] for i in perm), scale * factor
        nodes.append(node)
    return _Side(value, perm, scale, tuple(reversed(nodes)))


def _ahead(node: ir.Node) -> _Side:
    """What becomes of the result: its axes, of which columns must stay the last."""
    value, nodes = node.outputs[0], []
    perm = tuple(range(len(g.shape_of(value) or ())))
    scale = float(g.attribute(node, "alpha", 1.0))
    while (reader := g.only_consumer(value)) is not None:
        step = _step(reader, value)
        if step is None or step[1][-1] != len(perm) - 1:
            break
        perm, scale = tuple(perm[i] for i in step[1]), scale * step[2]
        value = reader.outputs[0]
        nodes.append(reader)
    back = tuple(int(i) for i in np.argsort(perm))
    return _Side(value, back, scale, tuple(nodes))


def _step(node: ir.Node, source: ir.Value | None) -> tuple[ir.Value, tuple[int, ...], float] | None:
    """Input, order of axes and factor of a Transpose, or of a Mul or Div by one constant.

    `source` : the input that is not the constant, where it is known.
    """
    x = node.inputs[0] if node.inputs else None
    rank = len(g.shape_of(node.outputs[0]) or ())
    if g.is_op(node, "Transpose") and x is not None:
        return x, tuple(g.attribute(node, "perm", range(rank)[::-1])), 1.0
    if not g.is_op(node, "Mul", "Div") or x is None or node.inputs[1] is None:
        return None
    by = node.inputs[1]
    if g.is_op(node, "Mul") and g.constant(by) is None:
        x, by = by, x
    number = g.constant(by)
    if number is None or number.dtype != np.float32 or number.size != 1:
        return None
    if g.shape_of(x) != g.shape_of(node.outputs[0]) or (source is not None and x is not source):
        return None
    factor = float(number.reshape(-1)[0])
    if not np.isfinite(factor) or (factor == 0 and g.is_op(node, "Div")):
        return None
    return x, tuple(range(rank)), 1 / factor if g.is_op(node, "Div") else factor
