"""Convolutions, matrix product and poolings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from accel.importers.openvino.operator import Made, Operator


def _window(op: Operator, kernel: Sequence[int]) -> dict[str, Any]:
    """Attributes of a convolution or pooling."""
    a = op.attributes
    found: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(a["strides"])}
    if any(d != 1 for d in a.get("dilations", [])):
        found["dilations"] = list(a["dilations"])
    auto = str(a.get("auto_pad", "explicit"))
    if auto in ("same_upper", "same_lower") and None in op.shape(0)[2:]:
        if "dilations" in found:
            raise op.unsupported("dilation, padding 'same' and an image of unknown size")
        return {**found, "auto_pad": auto.upper()}
    if auto != "valid":
        found["pads"] = [*a["pads_begin"], *a["pads_end"]]
        if min(found["pads"], default=0) < 0:
            raise op.unsupported(f"pads {found['pads']}")
    return found


def convolution(op: Operator, grouped: bool = False) -> Made:
    """Convolution; grouped weights are (G, O / G, I / G, KH, KW)."""
    weight, groups = op.arrays[1], 1
    shape = op.shape(1)
    if grouped:
        groups = shape[0] or 0
        if weight is None or not groups:
            raise op.unsupported("grouped weights must be constant")
        weight = weight.reshape(-1, *weight.shape[2:])
        name = op.graph.constant(weight, f"{op.name}/weight")
    else:
        name = op.value(1)
    kernel = [d or 0 for d in (shape[3:] if grouped else shape[2:])]
    return op.emit("Conv", op.value(0), name, group=groups, **_window(op, kernel))


def transposed(op: Operator, grouped: bool = False) -> Made:
    """Transposed convolution."""
    if len(op) > 2:
        raise op.unsupported("an output shape of its own")
    weight, groups = op.constant(1), 1
    if grouped:
        groups = weight.shape[0]
        weight = weight.reshape(-1, *weight.shape[2:])
    found = _window(op, weight.shape[2:])
    extra = list(op.attributes.get("output_padding", []))
    if any(extra):
        found["output_padding"] = extra
    name = op.graph.constant(weight, f"{op.name}/weight")
    return op.emit("ConvTranspose", op.value(0), name, group=groups, **found)


def matmul(op: Operator) -> Made:
    """Matrix product; a transposed constant is transposed here."""
    values = []
    for i, key in enumerate(("transpose_a", "transpose_b")):
        rank, array = len(op.shape(i)), op.arrays[i]
        if not op.attributes.get(key) or rank < 2:
            values.append(op.value(i))
        elif array is not None:
            values.append(op.graph.constant(array.swapaxes(-1, -2), f"{op.name}/weight"))
        else:
            perm = [*range(rank - 2), rank - 1, rank - 2]
            values.append(op.emit("Transpose", op.value(i), perm=perm))
    return op.emit("MatMul", *values)


def attention(op: Operator) -> Made:
    """Scaled dot-product attention: softmax(query key^T scale + mask) value."""
    rank, long, wide = len(op.shape(1)), op.shape(0)[-2], op.shape(0)[-1]
    keys = op.emit("Transpose", op.value(1), perm=[*range(rank - 2), rank - 1, rank - 2])
    if len(op) > 4:
        scale = op.value(4)
    elif wide is not None:
        scale = op.float(wide**-0.5)
    else:
        raise op.unsupported("a head of unknown width, and no scale")
    scores = op.emit("Mul", op.emit("MatMul", op.value(0), keys), scale)
    if op.attributes.get("causal"):
        scores = op.emit("Add", scores, _causal(op, long, op.shape(1)[-2]))
    elif len(op) > 3 and op.shape(3):
        scores = op.emit("Add", scores, _mask(op))
    return op.emit("MatMul", op.emit("Softmax", scores, axis=-1), op.value(2))


def _causal(op: Operator, rows: int | None, columns: int | None) -> str:
    """Minus infinity above the diagonal."""
    if rows is None or columns is None:
        raise op.unsupported("a causal mask of unknown size")
    above = np.triu(np.full((rows, columns), -np.inf, np.float32), 1)
    return op.graph.constant(above, f"{op.name}/mask")


def _mask(op: Operator) -> str:
    """What is added to scores: the mask itself, or minus infinity where it is false."""
    if op.node.get_input_element_type(3).get_type_name() != "boolean":
        return op.value(3)
    return op.emit("Where", op.value(3), op.float(0.0), op.float(-np.inf))


def max_pool(op: Operator) -> Made:
    """Maximum; its second output, the places, is not made."""
    found = _window(op, op.attributes["kernel"])
    return op.emit("MaxPool", op.value(0), ceil_mode=_ceil(op), **found)


def avg_pool(op: Operator) -> Made:
    """Average, with or without its padding."""
    found = _window(op, op.attributes["kernel"])
    if _ceil(op) and not op.attributes["exclude-pad"] and any(found.get("pads", [])):
        raise op.unsupported("an average that rounds up and counts its padding")
    include = int(not op.attributes["exclude-pad"])
    return op.emit(
        "AveragePool", op.value(0), ceil_mode=_ceil(op), count_include_pad=include, **found
    )


def _ceil(op: Operator) -> int:
    return int(str(op.attributes.get("rounding_type", "floor")) != "floor")
