"""Layers that normalize, join, move or enlarge."""

from __future__ import annotations

from math import prod

import numpy as np

from accel.errors import UnsupportedError
from accel.importers.keras.layer import MAX_SIDE, Layer, Tensor


def batch_normalization(layer: Layer) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta."""
    x, channels = layer.x, layer.known_channels()
    axis = layer.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if len(x.shape) not in (2, 4) or axis not in (-1, len(x.shape) - 1):
        raise UnsupportedError(f"{layer}: axis {axis} of an input of shape {x.shape}")
    flags = [bool(layer.config.get(k, True)) for k in ("scale", "center")]
    arrays = [np.ones(channels), np.zeros(channels)]
    place = 0
    for i, present in enumerate(flags):
        if present:
            arrays[i], place = layer.weight(place, channels), place + 1
    arrays += [layer.weight(place + i, channels) for i in (0, 1)]
    names = [layer.constant(a, "statistics") for a in arrays]
    epsilon = float(layer.config.get("epsilon", 1e-3))
    return Tensor(layer.emit("BatchNormalization", x.value, *names, epsilon=epsilon), x.shape)


def rescaling(layer: Layer) -> Tensor:
    """x * scale + offset."""
    factor, offset = (layer.config.get(k, d) for k, d in (("scale", 1.0), ("offset", 0.0)))
    if not all(isinstance(v, (int, float)) for v in (factor, offset)):
        raise UnsupportedError(f"{layer}: scale {factor!r}, offset {offset!r}")
    y = layer.emit("Mul", layer.x.value, layer.constant(np.array(factor), "scale"))
    y = layer.emit("Add", y, layer.constant(np.array(offset), "offset"))
    return Tensor(y, layer.x.shape)


def merge(layer: Layer) -> Tensor:
    """Element by element over all inputs: Add, Subtract, Multiply, Average, Maximum, Minimum."""
    shapes = {t.shape[1:] for t in layer.inputs}
    if len({len(s) for s in shapes}) != 1:
        raise layer.error(f"has inputs of shapes {[t.shape for t in layer.inputs]}")
    op_type = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Average": "Add",
               "Maximum": "Max", "Minimum": "Min"}[layer.kind]  # fmt: skip
    y = layer.x.value
    for other in layer.inputs[1:]:
        y = layer.emit(op_type, y, other.value)
    if layer.kind == "Average":
        y = layer.emit("Mul", y, layer.constant(np.array(1 / len(layer.inputs)), "share"))
    sides = zip(*[t.shape for t in layer.inputs], strict=True)
    return Tensor(y, tuple(None if None in s else max(d or 1 for d in s) for s in sides))


def concatenate(layer: Layer) -> Tensor:
    """Inputs joined along an axis."""
    rank, axis = len(layer.x.shape), layer.config.get("axis", -1)
    if type(axis) is not int or not -rank <= axis < rank:
        raise layer.error(f"has axis {axis!r} for {rank} dimensions")
    axis %= rank
    if any(len(t.shape) != rank for t in layer.inputs):
        raise layer.error(f"has inputs of shapes {[t.shape for t in layer.inputs]}")
    sizes = [t.shape[axis] for t in layer.inputs]
    total = None if None in sizes else sum(s or 0 for s in sizes)
    values = [t.value for t in layer.inputs]
    y = layer.emit("Concat", *values, axis=layer.x.stored_axis(axis))
    return Tensor(y, (*layer.x.shape[:axis], total, *layer.x.shape[axis + 1 :]))


def flatten(layer: Layer) -> Tensor:
    """All axes but the first as one, in Keras's order."""
    x, sides = layer.x, layer.x.shape[1:]
    total = None if None in sides else prod(d or 1 for d in sides)
    same = len(x.shape) != 4 or x.shape[1:3] == (1, 1)
    value = x.value if same else x.as_keras(layer.graph)
    return Tensor(layer.emit("Flatten", value), (x.shape[0], total))


def reshape(layer: Layer) -> Tensor:
    """Another shape behind the batch; one -1 takes what is left."""
    target, sides = layer.config.get("target_shape"), layer.x.shape[1:]
    if not isinstance(target, list) or any(type(d) is not int or d < -1 or d == 0 for d in target):
        raise layer.error(f"has target_shape {target!r}")
    shape: list[int | None] = list(target)
    if None not in sides and (
        target.count(-1) > 1
        or prod(d or 1 for d in sides) % prod(d for d in target if d != -1)
        or (-1 not in target and prod(target) != prod(d or 1 for d in sides))
    ):
        raise layer.error(f"cannot turn shape {layer.x.shape} into {target}")
    if -1 in target:
        rest = prod(d for d in target if d != -1)
        shape[target.index(-1)] = None if None in sides else prod(d or 1 for d in sides) // rest
    wanted = layer.ints([0, *target], "shape")
    y = layer.emit("Reshape", layer.x.as_keras(layer.graph), wanted)
    return Tensor.from_keras(layer.graph, y, (layer.x.shape[0], *shape))


def zero_padding2d(layer: Layer) -> Tensor:
    """Zeros around an image."""
    (top, bottom), (left, right) = _borders(layer, "padding")
    x = layer.image()
    pads = layer.ints([0, 0, top, left, 0, 0, bottom, right], "pads")
    h, w = x.shape[1:3]
    size = (None if h is None else h + top + bottom, None if w is None else w + left + right)
    return Tensor(layer.emit("Pad", x.value, pads), (x.shape[0], *size, x.channels))


def _borders(layer: Layer, key: str) -> list[list[int]]:
    value = layer.config.get(key, 1)
    pair = value if isinstance(value, list) else [value, value]
    borders = [list(v) if isinstance(v, list) else [v, v] for v in pair]
    flat = [v for b in borders for v in b]
    if len(borders) != 2 or len(flat) != 4 or any(
        type(v) is not int or not 0 <= v <= MAX_SIDE for v in flat
    ):  # fmt: skip
        raise layer.error(f"has {key} {value!r}")
    return borders


def up_sampling2d(layer: Layer) -> Tensor:
    """An image enlarged by whole factors."""
    x, (rows, columns) = layer.image(), layer.pair("size", 2)
    mode = layer.config.get("interpolation", "nearest")
    if mode not in ("nearest", "bilinear"):
        raise UnsupportedError(f"{layer}: interpolation {mode!r}")
    scales = layer.constant(np.array([1, 1, rows, columns]), "scales")
    ways = {"nearest": ("nearest", "asymmetric", "floor"), "bilinear": ("linear", "half_pixel", "")}
    name, coordinates, rounding = ways[mode]
    extra = {"nearest_mode": rounding} if rounding else {}
    y = layer.emit("Resize", x.value, "", scales, mode=name,
                   coordinate_transformation_mode=coordinates, **extra)  # fmt: skip
    h, w = x.shape[1:3]
    size = (None if h is None else h * rows, None if w is None else w * columns)
    return Tensor(y, (x.shape[0], *size, x.channels))


def identity(layer: Layer) -> Tensor:
    """Layers that act in training only."""
    return layer.x
