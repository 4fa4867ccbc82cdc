"""Put image normalisation in front of the network: uint8 NHWC pixels in, its own input out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.errors import InputError, ModelError


def fold_preprocessing(
    model: ir.Model,
    name: str,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    scale: float,
    order: str,
) -> ir.Model:
    """Replace the one float image input (N, C, H, W) by uint8 (N, H, W, C) in RGB order.

    An input (N, H, W, C) whose only reader transposes it, as in networks that came from channels
    last, is taken as that reader's output.
    """
    graph = model.graph
    _skip_transpose(graph)
    inputs = g.data_inputs(graph)
    shape = g.shape_of(inputs[0]) if len(inputs) == 1 else None
    if shape is None or len(shape) != 4 or inputs[0].dtype != ir.DataType.FLOAT or not shape[1]:
        found = ", ".join(f"{v.name} {g.shape_of(v)} {v.dtype}" for v in inputs)
        raise ModelError(
            f"model {name!r} takes {found}; preprocessing can be folded only into one float32 "
            "image input (N, C, H, W) with a known C"
        )
    channels = shape[1]
    factor, offset = _affine(channels, mean, std, scale)
    if order not in ("rgb", "bgr") or (order == "bgr" and channels != 3):
        raise InputError(f"order is {order!r} for {channels} channels; expected 'rgb' or 'bgr'")
    old = inputs[0]
    pixels = ir.Value(name=old.name)
    pixels.dtype = ir.DataType.UINT8
    pixels.shape = ir.Shape([old.shape[0], shape[2], shape[3], channels])  # type: ignore[index]
    first = next(iter(graph))
    old.name = f"{pixels.name}_normalised"
    value = g.insert_node(
        graph, first, "Cast", [pixels], f"{pixels.name}_float", {"to": int(ir.DataType.FLOAT)}
    )
    if order == "bgr":
        reverse = g.add_initializer(graph, "bgr", np.array([2, 1, 0], np.int64))
        value = g.insert_node(
            graph, first, "Gather", [value, reverse], f"{pixels.name}_bgr", {"axis": 3}
        )
    factor_value = g.add_initializer(graph, f"{pixels.name}_factor", factor)
    offset_value = g.add_initializer(graph, f"{pixels.name}_offset", offset)
    value = g.insert_node(graph, first, "Mul", [value, factor_value], f"{pixels.name}_scaled")
    value = g.insert_node(graph, first, "Add", [value, offset_value], f"{pixels.name}_shifted")
    value = g.insert_node(
        graph, first, "Transpose", [value], f"{pixels.name}_nchw", {"perm": [0, 3, 1, 2]}
    )
    ir.convenience.replace_all_uses_with(old, value)
    graph.inputs[list(graph.inputs).index(old)] = pixels
    return model


def _skip_transpose(graph: ir.Graph) -> None:
    """Make the one input that is channels last channels first, in place of its Transpose."""
    inputs = g.data_inputs(graph)
    reader = g.only_consumer(inputs[0]) if len(inputs) == 1 else None
    if reader is None or not g.is_op(reader, "Transpose"):
        return
    shape = inputs[0].shape
    if tuple(g.attribute(reader, "perm", ())) != (0, 3, 1, 2) or shape is None:
        return
    inputs[0].shape = ir.Shape([shape[i] for i in (0, 3, 1, 2)])
    g.replace_value(reader.outputs[0], inputs[0])
    graph.remove(reader, safe=True)


def _affine(
    channels: int, mean: float | Sequence[float], std: float | Sequence[float], scale: float
) -> tuple[np.ndarray, np.ndarray]:
    means, stds = (np.atleast_1d(np.asarray(v, np.float64)) for v in (mean, std))
    for key, values in (("mean", means), ("std", stds)):
        if len(values) not in (1, channels) or not np.isfinite(values).all():
            raise InputError(f"{key} is {values.tolist()}; expected 1 or {channels} finite values")
    if not np.isfinite(scale) or scale == 0 or (stds == 0).any():
        raise InputError(f"scale is {scale}, std is {stds.tolist()}; expected non-zero values")
    factor = np.broadcast_to(1 / (scale * stds), channels).astype(np.float32)
    offset = np.broadcast_to(-means / stds, channels).astype(np.float32)
    return factor, offset
