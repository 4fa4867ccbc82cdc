"""The arithmetic of a model: one `Layer` per Conv, Gemm and MatMul, from shapes alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from accel import graph as g

PRODUCTS = ("Conv", "Gemm", "MatMul", "ConvTranspose")


@dataclass(frozen=True)
class Layer:
    """Shape of one product node.

    Attributes
    ----------
    n, oh, ow, oc : output images, rows, columns, channels; a matrix product of M rows has
        ``oh = 1`` and ``ow = M / n``.
    ic, kh, kw : input channels of the whole tensor (K of a matrix product) and kernel size.
    macs : multiplications, padding counted.
    weight_bytes, input_bytes, output_bytes : in int8, without scales; both factors of a product of
        two activations are input.
    """

    name: str
    op: str
    n: int
    oh: int
    ow: int
    oc: int
    ic: int
    kh: int
    kw: int
    groups: int
    macs: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int


def workload_of(model: ir.Model) -> list[Layer]:
    """Layers of a graph whose shapes are inferred; nodes of unknown shape are left out."""
    return [layer for node in model.graph if (layer := _layer(node)) is not None]


def node_macs(node: ir.Node) -> int:
    """Multiplications of a node; 0 where it is no product or its shape is unknown."""
    layer = _layer(node)
    return 0 if layer is None else layer.macs


def _layer(node: ir.Node) -> Layer | None:
    if not g.is_op(node, *PRODUCTS) or node.inputs[0] is None or node.inputs[1] is None:
        return None
    x, w = g.known_shape(node.inputs[0]), g.known_shape(node.inputs[1])
    y = g.known_shape(node.outputs[0])
    if x is None or w is None or y is None:
        return None
    if node.op_type in ("Conv", "ConvTranspose"):
        return _conv(node, x, w, y)
    k = x[0] if node.op_type == "Gemm" and g.attribute(node, "transA", 0) else x[-1]
    return _matmul(node, x, w, y, k)


def _conv(node: ir.Node, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...]) -> Layer:
    transposed = node.op_type == "ConvTranspose"
    spatial = x[2:] if transposed else y[2:]
    groups = g.attribute(node, "group", 1)
    return Layer(
        name=node.name or node.outputs[0].name or "",
        op=node.op_type,
        n=y[0],
        oh=prod(y[2:-1]),
        ow=y[-1],
        oc=y[1],
        ic=x[1],
        kh=prod(w[2:-1]),
        kw=w[-1],
        groups=groups,
        macs=x[0] * prod(spatial) * prod(w),
        weight_bytes=prod(w),
        input_bytes=prod(x),
        output_bytes=prod(y),
    )


def _matmul(
    node: ir.Node, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], k: int
) -> Layer:
    n = y[0] if len(y) > 1 else 1
    rows = max(prod(y[:-1]) // max(n, 1), 1)
    made = _is_made(node.inputs[1])
    heads = prod(y[1:-2]) if made and len(y) > 2 else 1
    return Layer(
        name=node.name or node.outputs[0].name or "",
        op=node.op_type,
        n=n,
        oh=heads,
        ow=rows // max(heads, 1),
        oc=y[-1] if y else 1,
        ic=k,
        kh=1,
        kw=1,
        groups=1,
        macs=prod(y) * k,
        weight_bytes=0 if made else prod(w),
        input_bytes=prod(x) + (prod(w) if made else 0),
        output_bytes=prod(y),
    )


def _is_made(value: ir.Value | None) -> bool:
    """Whether other nodes compute a factor: it is no weight, stored or given as an input."""
    node = value.producer() if value is not None else None
    if node is None or g.constant(value) is not None:
        return False
    return not (g.is_op(node, "DequantizeLinear") and g.constant(node.inputs[0]) is not None)
