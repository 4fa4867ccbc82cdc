"""Layers that move elements: joining, cutting and reshaping. Softmax too, as it has an axis."""

from __future__ import annotations

import math

import numpy as np

from accel.importers.caffe.layer import Blob, Layer


def concat(layer: Layer) -> list[Blob]:
    """Inputs joined along an axis."""
    p, x = layer.parameters("concat"), layer.x
    axis = layer.axis(p.concat_dim if p.HasField("concat_dim") else p.axis)
    for blob in layer.inputs:
        others = [s[:axis] + s[axis + 1 :] for s in (blob.shape, x.shape)]
        if len(blob.shape) != len(x.shape) or others[0] != others[1]:
            raise layer.error(f"cannot join shapes {x.shape} and {blob.shape} along axis {axis}")
    total = sum(blob.shape[axis] for blob in layer.inputs)
    y = layer.emit("Concat", *[blob.value for blob in layer.inputs], axis=axis)
    return layer.result(y, *x.shape[:axis], total, *x.shape[axis + 1 :])


def slice_(layer: Layer) -> list[Blob]:
    """One input cut along an axis, at given points or evenly."""
    p, x = layer.parameters("slice"), layer.x
    axis = layer.axis(p.slice_dim if p.HasField("slice_dim") else p.axis)
    size, tops = x.shape[axis], layer.tops
    points = list(p.slice_point) or [size * i // tops for i in range(1, tops)]
    parts = np.diff([0, *points, size]).tolist()
    if len(parts) != tops or min(parts) < 1 or (not p.slice_point and size % tops):
        raise layer.error(f"cannot cut {size} at {points} into {tops} tops")
    if tops == 1:
        return [x]
    values = layer.net.graph.nodes(
        "Split", [x.value, layer.constant(np.array(parts, np.int64), "sizes")],
        [f"{layer.name}/{i}" for i in range(tops)], axis=axis,
    )  # fmt: skip
    shapes = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in parts]
    return [Blob(v, s) for v, s in zip(values, shapes, strict=True)]


def softmax(layer: Layer) -> list[Blob]:
    """exp(x) over its sum along an axis."""
    axis = layer.axis(layer.parameters("softmax").axis)
    return layer.same(layer.emit("Softmax", layer.x.value, axis=axis))


def permute(layer: Layer) -> list[Blob]:
    """Axes in another order; those not named follow."""
    order, rank = list(layer.parameters("permute").order), len(layer.x.shape)
    if len(set(order)) != len(order) or any(not 0 <= a < rank for a in order):
        raise layer.error(f"has order {order} for {rank} dimensions")
    order += [a for a in range(rank) if a not in order]
    if order and order[0] != 0:
        layer.net.fixed_batch = True
    y = layer.emit("Transpose", layer.x.value, perm=order)
    return layer.result(y, *[layer.x.shape[a] for a in order])


def reshape(layer: Layer) -> list[Blob]:
    """Another shape for the axes from `axis` on; 0 copies a size, one -1 takes what is left."""
    p, x = layer.parameters("reshape"), layer.x
    rank = len(x.shape)
    start = p.axis if p.axis >= 0 else p.axis + rank + 1
    end = rank if p.num_axes == -1 else start + p.num_axes
    wanted = list(p.shape.dim)
    if not 0 <= start <= end <= rank or wanted.count(-1) > 1 or any(d < -1 for d in wanted):
        raise layer.error(f"has axis {p.axis}, num_axes {p.num_axes}, shape {wanted} for {x.shape}")
    for i, d in enumerate(wanted):
        if d == 0:
            if start + i >= rank:
                raise layer.error(f"copies axis {start + i} of shape {x.shape}")
            wanted[i] = x.shape[start + i]
    shape = [*x.shape[:start], *wanted, *x.shape[end:]]
    if -1 in shape:
        rest = math.prod(d for d in shape if d != -1)
        shape[shape.index(-1)] = math.prod(x.shape) // max(rest, 1)
    return layer.reshape(x, tuple(shape))


def flatten(layer: Layer) -> list[Blob]:
    """Axes `axis` to `end_axis` as one."""
    p, x = layer.parameters("flatten"), layer.x
    start, end = layer.axis(p.axis), layer.axis(p.end_axis)
    if start > end:
        raise layer.error(f"flattens axes {start} to {end}")
    middle = math.prod(x.shape[start : end + 1])
    return layer.reshape(x, (*x.shape[:start], middle, *x.shape[end + 1 :]))


def crop(layer: Layer) -> list[Blob]:
    """The first input cut to the size of the second, from `axis` on."""
    p, x = layer.parameters("crop"), layer.x
    if len(layer.inputs) != 2 or len(layer.inputs[1].shape) != len(x.shape):
        raise layer.error("needs two inputs of equally many dimensions")
    axis = layer.axis(p.axis)
    axes = list(range(axis, len(x.shape)))
    offsets = list(p.offset) or [0]
    offsets = offsets * len(axes) if len(offsets) == 1 else offsets
    sizes = [layer.inputs[1].shape[a] for a in axes]
    inside = len(offsets) == len(axes) and all(
        o >= 0 and o + n <= x.shape[a] for o, n, a in zip(offsets, sizes, axes, strict=True)
    )
    if not inside:
        raise layer.error(f"cuts {sizes} at {offsets} from shape {x.shape}")
    ends = [o + n for o, n in zip(offsets, sizes, strict=True)]
    limits = [
        layer.constant(np.array(v, np.int64), n)
        for v, n in ((offsets, "starts"), (ends, "ends"), (axes, "axes"))
    ]
    return layer.result(layer.emit("Slice", x.value, *limits), *x.shape[:axis], *sizes)


def identity(layer: Layer) -> list[Blob]:
    """Dropout and Split: every output is the input."""
    return [layer.x] * layer.tops
