"""Lower what moves images between products: pooling, concatenation, change of shape."""

from __future__ import annotations

import onnx_ir as ir

from accel import graph as g
from accel.lower.geometry import resolved_pads
from accel.schedule import JoinCall, PoolCall, ViewCall

_POOLS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
_VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")


def pool_call(node: ir.Node, images: set[str]) -> PoolCall | None:
    """The call for a 2-D pooling of an image that our kernels made."""
    x = node.inputs[0] if node.inputs else None
    if not g.is_op(node, *_POOLS) or x is None or x.name not in images:
        return None
    x_shape, y_shape = g.known_shape(x), g.known_shape(node.outputs[0])
    if x_shape is None or y_shape is None or len(x_shape) != 4 or 0 in y_shape:
        return None
    if any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):  # indices of the maxima
        return None
    whole = node.op_type.startswith("Global")
    kernel = x_shape[2:] if whole else tuple(g.attribute(node, "kernel_shape", ()))
    strides = tuple(g.attribute(node, "strides", (1, 1)))
    dilations = tuple(g.attribute(node, "dilations", (1, 1)))
    pads = resolved_pads(node, x_shape[2:], y_shape[2:], kernel, strides, dilations)
    if not _each_window_sees_the_image(x_shape[2:], y_shape[2:], kernel, strides, dilations, pads):
        return None
    return PoolCall(
        name=node.name or node.outputs[0].name or "",
        op=node.op_type,
        x=x.name or "",
        y=node.outputs[0].name or "",
        average=node.op_type.endswith("AveragePool"),
        count_pads=bool(g.attribute(node, "count_include_pad", 0)),
        kernel=(int(kernel[0]), int(kernel[1])),
        strides=(int(strides[0]), int(strides[1])),
        pads=(int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3])),
        dilations=(int(dilations[0]), int(dilations[1])),
    )


def _each_window_sees_the_image(
    x: tuple[int, ...],
    y: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: list[int],
) -> bool:
    """Whether the first and the last window have a tap inside; negative pads are left alone."""
    if min(pads) < 0:
        return False
    for i in range(2):
        for out in (0, y[i] - 1):
            first = out * strides[i] - pads[i]
            taps = range(first, first + kernel[i] * dilations[i], dilations[i])
            if not any(0 <= t < x[i] for t in taps):
                return False
    return True


def join_call(node: ir.Node, images: set[str]) -> JoinCall | None:
    """The call for a concatenation by channel of which our kernels made a part."""
    if not g.is_op(node, "Concat") or g.attribute(node, "axis", 0) not in (1, -3):
        return None
    names = [v.name or "" for v in node.inputs if v is not None]
    shapes = [g.known_shape(v) for v in node.inputs if v is not None]
    if not set(names) & images or any(s is None or len(s) != 4 or 0 in s for s in shapes):
        return None
    if any(v is None or v.dtype != ir.DataType.FLOAT or g.constant(v) is not None
           for v in node.inputs):  # fmt: skip
        return None
    out = node.outputs[0].name or ""
    return JoinCall(node.name or out, node.op_type, tuple(names), out)


def view_call(node: ir.Node, images: set[str]) -> ViewCall | None:
    """The call for a change of shape of what our kernels made."""
    x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
    if not g.is_op(node, *_VIEWS) or x is None or x.name not in images:
        return None
    if g.known_shape(x) is None or g.known_shape(y) is None:
        return None
    if any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):
        return None
    return ViewCall(node.name or y.name or "", node.op_type, x.name or "", y.name or "")


def channels_last_call(node: ir.Node, images: set[str]) -> ViewCall | None:
    """The call for a transposition that asks for an image as our kernels keep it."""
    x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
    if not g.is_op(node, "Transpose") or x is None or x.name not in images:
        return None
    if tuple(g.attribute(node, "perm", ())) != (0, 2, 3, 1) or x.dtype != ir.DataType.FLOAT:
        return None
    if g.known_shape(x) is None or g.known_shape(y) is None:
        return None
    name = node.name or y.name or ""
    return ViewCall(name, node.op_type, x.name or "", y.name or "", channels_last=True)
