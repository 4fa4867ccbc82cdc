"""Lower a quantized graph to a schedule: calls of our kernels with what is fused behind them,
and subgraphs left to ONNX Runtime. Says what runs, not where its data lies (that is `plan`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from accel import graph as g
from accel.passes.choose_windows import WINDOW_KEY
from accel.passes.find_nonnegative import find_nonnegative
from accel.passes.fuse_epilogue import Epilogue, fuse_epilogue
from accel.passes.quantize_weights import weight_axes
from accel.workload import node_macs

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class KernelCall:
    """One convolution or matrix product on our kernels, with its fused epilogue.

    Attributes
    ----------
    x, y, residual : value names. `x` is an image (N, C, H, W) or (N, C, W), or, where `rows`,
        a matrix (..., K).
    qw : int8, OHWI (OC, KH, KW, IC / groups) or (N, K).
    scale : float32, one per output channel, or one per output channel and weight window.
    window, weight_window : activation and weight windows.
    signed : whether the activations need a sign (zero point 128, else 0).
    pads : top, left, bottom, right.
    """

    name: str
    op: str
    x: str
    y: str
    rows: bool
    qw: Array
    scale: Array
    window: int
    weight_window: int | None
    signed: bool
    groups: int
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    bias: Array | None
    epilogue: Epilogue
    macs: int

    @property
    def reads(self) -> tuple[str, ...]:
        residual = self.epilogue.residual
        return (self.x,) if residual is None else (self.x, residual)

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.y,)


@dataclass(frozen=True)
class HostGroup:
    """Nodes that ONNX Runtime runs as one subgraph.

    Attributes
    ----------
    data : the subgraph as a serialized ONNX model.
    nodes : (name, operator, multiplications) of each node.
    """

    data: bytes
    nodes: tuple[tuple[str, str, int], ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Schedule:
    """Calls in an order that respects their data, with the shape and dtype of every value.

    A shape is None where it cannot be known before the run.
    """

    calls: tuple[KernelCall | HostGroup, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Array]  # outputs that are weights of the model
    shapes: dict[str, tuple[int, ...] | None]
    dtypes: dict[str, np.dtype[Any]]


def lower(model: ir.Model) -> Schedule:
    """Lower a graph whose shapes are fixed."""
    nonnegative = find_nonnegative(model)
    claimed: set[ir.Node] = set()
    kernel_calls: list[KernelCall] = []
    for node in model.graph:
        call = None if node in claimed else _kernel_call(node, nonnegative, claimed)
        if call is not None:
            kernel_calls.append(call)
    host = _needed_host_nodes(model.graph, claimed, kernel_calls)
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [o for node in model.graph for o in node.outputs]
    return Schedule(
        calls=tuple(_order(model, kernel_calls, host)),
        inputs=tuple(v.name or "" for v in g.data_inputs(model.graph)),
        outputs=tuple(v.name or "" for v in model.graph.outputs),
        constants={
            v.name or "": a for v in model.graph.outputs if (a := g.constant(v)) is not None
        },
        shapes={v.name or "": g.known_shape(v) for v in values},
        dtypes={v.name or "": np.dtype(v.dtype.numpy()) for v in values if v.dtype is not None},
    )


def _kernel_call(node: ir.Node, nonnegative: set[str], claimed: set[ir.Node]) -> KernelCall | None:
    """The call for a product node, None where our kernels do not run it."""
    axes = weight_axes(node)
    weights = _weights(node) if axes is not None and WINDOW_KEY in node.metadata_props else None
    x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
    if axes is None or weights is None or x is None or y.shape is None:
        return None
    x_shape, y_shape = g.known_shape(x), g.known_shape(y)
    if x_shape is None or y_shape is None or x.dtype != ir.DataType.FLOAT or 0 in x_shape:
        return None
    bias = _bias(node, y_shape)
    if bias is False:
        return None
    q, scale, block = weights
    image = g.is_op(node, "Conv")
    geometry = _geometry(node, x_shape, y_shape) if image else _MATRIX
    if geometry is None or (not image and len(x_shape) < 2):
        return None
    epilogue, fused = fuse_epilogue(node, claimed, bias is not None)
    claimed.update([node, *fused])
    if epilogue.bias is not None:
        bias = epilogue.bias
    qw, scale = _layout(q, scale, image, axes.channel == 0)
    return KernelCall(
        name=node.name or y.name or "",
        op="+".join(n.op_type for n in (node, *fused)),
        x=x.name or "",
        y=(fused[-1] if fused else node).outputs[0].name or "",
        rows=not image,
        qw=qw,
        scale=scale,
        window=int(node.metadata_props[WINDOW_KEY]),
        weight_window=block,
        signed=x.name not in nonnegative,
        bias=bias if isinstance(bias, np.ndarray) else None,
        epilogue=replace(epilogue, bias=None),
        macs=node_macs(node),
        **geometry,
    )


_MATRIX: dict[str, Any] = {
    "groups": 1, "strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1),
}  # fmt: skip


def _weights(node: ir.Node) -> tuple[Array, Array, int | None] | None:
    """int8 values, scales and block of the DequantizeLinear behind a product's weight."""
    value = node.inputs[1]
    dq = value.producer() if value is not None else None
    if dq is None or not g.is_op(dq, "DequantizeLinear") or len(dq.inputs) != 2:
        return None
    q, scale = g.constant(dq.inputs[0]), g.constant(dq.inputs[1])
    if q is None or scale is None or q.dtype != np.int8 or scale.dtype != np.float32:
        return None
    if (q == -128).any() or not np.isfinite(scale).all():
        return None
    return q, scale, g.attribute(dq, "block_size", 0) or None


def _bias(node: ir.Node, y_shape: tuple[int, ...]) -> Array | bool | None:
    """The constant bias, None without one, False where it is one that we cannot take."""
    if g.is_op(node, "MatMul") or len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    bias = g.constant(node.inputs[2])
    if bias is None or bias.dtype != np.float32 or g.attribute(node, "beta", 1.0) != 1.0:
        return False
    channels = y_shape[1]
    if bias.size not in (1, channels) or (bias.ndim > 1 and bias.shape[-1] != bias.size):
        return False
    return np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), channels))


def _geometry(node: ir.Node, x: tuple[int, ...], y: tuple[int, ...]) -> dict[str, Any] | None:
    rank = len(x) - 2
    if rank not in (1, 2) or 0 in y:
        return None
    weight = node.inputs[1]
    kernel = (g.known_shape(weight) or ())[2:] if weight is not None else ()
    strides = list(g.attribute(node, "strides", [1] * rank))
    dilations = list(g.attribute(node, "dilations", [1] * rank))
    pads = _pads(node, x[2:], y[2:], kernel, strides, dilations)
    if min(pads) < 0:
        return None
    if rank == 1:
        strides, dilations, pads = [1, *strides], [1, *dilations], [0, pads[0], 0, pads[1]]
    return {
        "groups": int(g.attribute(node, "group", 1)),
        "strides": (int(strides[0]), int(strides[1])),
        "pads": tuple(int(p) for p in pads),
        "dilations": (int(dilations[0]), int(dilations[1])),
    }


def _pads(
    node: ir.Node,
    x: Sequence[int],
    y: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Begin pads then end pads; `auto_pad` is resolved as the ONNX standard says."""
    auto = g.attribute(node, "auto_pad", "NOTSET")
    if auto == "NOTSET":
        return list(g.attribute(node, "pads", [0] * (2 * len(x))))
    if auto == "VALID":
        return [0] * (2 * len(x))
    total = [
        max((o - 1) * s + (k - 1) * d + 1 - i, 0)
        for i, o, k, s, d in zip(x, y, kernel, strides, dilations, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return [*small, *large] if auto == "SAME_UPPER" else [*large, *small]


def _layout(q: Array, scale: Array, image: bool, channel_first: bool) -> tuple[Array, Array]:
    if image:
        axes = (0, 2, 3, 1) if q.ndim == 4 else (0, 2, 1)
        q = q.transpose(axes)
        scale = scale.transpose(axes) if scale.ndim > 1 else scale
        if q.ndim == 3:
            q = q[:, None]
            scale = scale[:, None] if scale.ndim > 1 else scale
    elif not channel_first:
        q, scale = q.T, scale.T
    return np.ascontiguousarray(q), np.ascontiguousarray(scale)


def _needed_host_nodes(
    graph: ir.Graph, claimed: set[ir.Node], calls: list[KernelCall]
) -> list[ir.Node]:
    """Unclaimed nodes whose results something needs, in graph order."""
    needed = {v.name for v in graph.outputs} | {name for c in calls for name in c.reads}
    kept = []
    for node in reversed(list(graph)):
        if node not in claimed and any(o.name in needed for o in node.outputs):
            kept.append(node)
            needed.update(_reads(node))
    return kept[::-1]


def _reads(node: ir.Node) -> set[str]:
    """Names a node reads, those captured by its subgraphs included."""
    found = {v.name for v in node.inputs if v is not None and v.name}
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            inner = attribute.as_graph()
            made = {v.name for v in inner.inputs} | set(inner.initializers)
            for child in inner:
                found |= _reads(child) - made
                made |= {o.name for o in child.outputs}
            found |= {v.name for v in inner.outputs if v.name} - made
    return found


def _order(
    model: ir.Model, calls: list[KernelCall], host: list[ir.Node]
) -> Iterator[KernelCall | HostGroup]:
    """All ready host nodes as one group, then all ready kernel calls, and so on: few groups."""
    ready = {v.name for v in g.data_inputs(model.graph)} | set(model.graph.initializers) | {""}
    waiting_calls, waiting_nodes = list(calls), list(host)
    while waiting_calls or waiting_nodes:
        group = []
        for node in waiting_nodes:
            if _reads(node) <= ready:
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
    model: ir.Model, nodes: list[ir.Node], later: list[ir.Node], calls: list[KernelCall]
) -> HostGroup:
    made = {o.name for n in nodes for o in n.outputs if o.name}
    read = set().union(*(_reads(n) for n in nodes))
    outside = {v.name for v in model.graph.outputs} | {r for c in calls for r in c.reads}
    outside |= set().union(*(_reads(n) for n in later))
    by_name = _values(model)
    inputs = sorted(n for n in read - made if n in by_name and n not in model.graph.initializers)
    outputs = sorted(n for n in made & outside if n)
    proto = onnx.ModelProto()
    proto.CopyFrom(ir.to_proto(ir.Model(ir.Graph([], [], nodes=[]), ir_version=model.ir_version)))
    proto.graph.name = "host"
    del proto.opset_import[:]
    for domain, version in model.graph.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    proto.graph.node.extend(ir.to_proto(n) for n in nodes)
    for name in sorted(read & set(model.graph.initializers)):
        tensor = model.graph.initializers[name].const_value
        proto.graph.initializer.append(ir.to_proto(tensor))  # type: ignore[arg-type]
    proto.graph.input.extend(ir.to_proto(by_name[n]) for n in inputs)
    proto.graph.output.extend(ir.to_proto(by_name[n]) for n in outputs)
    return HostGroup(
        data=proto.SerializeToString(),
        nodes=tuple((n.name or "", n.op_type, node_macs(n)) for n in nodes),
        reads=tuple(inputs),
        writes=tuple(outputs),
    )


def _values(model: ir.Model) -> dict[str, ir.Value]:
    found = {v.name: v for v in model.graph.inputs if v.name}
    for node in model.graph:
        found.update({o.name: o for o in node.outputs if o.name})
    return found
