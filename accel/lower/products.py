"""Lower Conv, Gemm and MatMul whose weights are int8 to calls of our kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.lower.geometry import resolved_pads
from accel.lower.pixels import read_pixels
from accel.passes.choose_fine import fits_fine
from accel.passes.choose_windows import WHOLE_IMAGE, window_of
from accel.passes.fuse_epilogue import fuse_epilogue
from accel.passes.quantize_weights import weight_axes
from accel.passes.round_weights import FINE_LIMIT
from accel.schedule import ProductCall
from accel.workload import node_macs

Array = np.ndarray[Any, Any]


def product_call(node: ir.Node, nonnegative: set[str], claimed: set[ir.Node]) -> ProductCall | None:
    """The call for a product node, None where our kernels do not run it."""
    axes = weight_axes(node)
    window = window_of(node)
    weights = _weights(node) if axes is not None and window is not None else None
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
    if q.dtype == np.int16 and (window == WHOLE_IMAGE or not (image and fits_fine(node))):
        return None
    geometry = _geometry(node, x_shape, y_shape) if image else _MATRIX
    if geometry is None or (not image and len(x_shape) < 2):
        return None
    epilogue, fused = fuse_epilogue(node, claimed, bias is not None)
    claimed.update([node, *fused])
    if epilogue.bias is not None:
        bias = epilogue.bias
    qw, scale = _layout(q, scale, image, axes.channel == 0)
    call = ProductCall(
        name=node.name or y.name or "",
        op="+".join(n.op_type for n in (node, *fused)),
        x=x.name or "",
        y=(fused[-1] if fused else node).outputs[0].name or "",
        rows=not image,
        shape=qw.shape,
        qw=qw,
        scale=scale,
        window=None if window == WHOLE_IMAGE else window,
        weight_window=block,
        fine=qw.dtype == np.int16,
        zero_point=128 if window == WHOLE_IMAGE or x.name not in nonnegative else 0,
        bias=bias if isinstance(bias, np.ndarray) else None,
        epilogue=replace(epilogue, bias=None),
        macs=node_macs(node),
        **geometry,
    )
    return read_pixels(call, node, claimed) if image else call


LEVELS = {np.dtype(np.int8): 127, np.dtype(np.int16): FINE_LIMIT}
_MATRIX: dict[str, Any] = {
    "groups": 1, "strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1),
}  # fmt: skip


def _weights(node: ir.Node) -> tuple[Array, Array, int | None] | None:
    """Integer values, scales and block of the DequantizeLinear behind a product's weight."""
    value = node.inputs[1]
    dq = value.producer() if value is not None else None
    if dq is None or not g.is_op(dq, "DequantizeLinear") or len(dq.inputs) != 2:
        return None
    q, scale = g.constant(dq.inputs[0]), g.constant(dq.inputs[1])
    if q is None or scale is None or scale.dtype != np.float32 or not np.isfinite(scale).all():
        return None
    block = g.attribute(dq, "block_size", 0) or None
    most = LEVELS.get(q.dtype) if block is None else 127
    if most is None or q.dtype.kind != "i" or q.min() < -most or q.max() > most:
        return None
    return q, scale, block


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
    pads = resolved_pads(node, x[2:], y[2:], kernel, strides, dilations)
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
