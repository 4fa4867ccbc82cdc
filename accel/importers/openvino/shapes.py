"""Operators that reduce, move, cut, join or enlarge."""

from __future__ import annotations

from typing import Any

from accel.importers.openvino.operator import TYPES, Made, Operator


def reduce(op: Operator, op_type: str) -> Made:
    """Reduction over constant axes."""
    keep, axes = int(op.attributes["keep_dims"]), op.integers(1)
    rank = len(op.shape(0))
    spatial = sorted(a % rank for a in axes) == [*range(2, rank)] if rank else False
    if op_type == "ReduceMean" and keep and rank == 4 and spatial:
        return op.emit("GlobalAveragePool", op.value(0))
    return op.emit(op_type, op.value(0), op.ints(axes), keepdims=keep)


def concat(op: Operator) -> Made:
    """Inputs joined along an axis."""
    values = [op.value(i) for i in range(len(op))]
    return op.emit("Concat", *values, axis=int(op.attributes["axis"]))


def reshape(op: Operator) -> Made:
    """Another shape, constant as far as OpenVINO knows it."""
    shape = op.output_shape()
    if shape.count(None) <= 1:  # what OpenVINO worked out, one size left to the run
        return op.emit("Reshape", op.value(0), op.ints([-1 if d is None else d for d in shape]))
    if op.arrays[1] is None or op.attributes.get("special_zero"):
        return op.emit("Reshape", op.value(0), op.int64(1))
    return op.emit("Reshape", op.value(0), op.int64(1), allowzero=1)


def squeeze(op: Operator, op_type: str) -> Made:
    """Squeeze and Unsqueeze."""
    inputs = [op.value(0)]
    if len(op) > 1:
        inputs.append(op.ints(op.integers(1)))
    return op.emit(op_type, *inputs)


def transpose(op: Operator) -> Made:
    """Axes in a constant order."""
    return op.emit("Transpose", op.value(0), perm=op.integers(1))


def split(op: Operator) -> Made:
    """Equal parts along an axis."""
    count = int(op.attributes["num_splits"])
    names = [f"{op.name}/{i}" for i in range(count)]
    axis = op.integers(1)[0]
    return op.graph.nodes("Split", [op.value(0)], names, axis=axis, num_outputs=count)


def variadic_split(op: Operator) -> Made:
    """Parts of given lengths; one -1 takes what is left."""
    axis, lengths = op.integers(1)[0], op.integers(2)
    if lengths.count(-1):
        size = op.shape(0)[axis]
        if size is None or lengths.count(-1) > 1:
            raise op.unsupported(f"lengths {lengths} of a size that is not known")
        lengths[lengths.index(-1)] = size - sum(n for n in lengths if n != -1)
    names = [f"{op.name}/{i}" for i in range(len(lengths))]
    return op.graph.nodes("Split", [op.value(0), op.ints(lengths)], names, axis=axis)


def strided_slice(op: Operator) -> Made:
    """A slice whose masks say which bounds do not count."""
    a = op.attributes
    if any(a.get("ellipsis_mask") or []) or any(a.get("new_axis_mask") or []):
        raise op.unsupported("ellipsis_mask or new_axis_mask")
    begin, end = op.integers(1), op.integers(2)
    step = op.integers(3) if len(op) > 3 else [1] * len(begin)
    most = 2**62
    squeezed = []
    for i in range(len(begin)):
        if _mask(a, "shrink_axis_mask", i):
            squeezed.append(i)
            end[i], step[i] = (begin[i] + 1) or most, 1
            continue
        if _mask(a, "begin_mask", i):
            begin[i] = 0 if step[i] > 0 else most
        if _mask(a, "end_mask", i):
            end[i] = most if step[i] > 0 else -most
    axes = list(range(len(begin)))
    y = op.emit("Slice", op.value(0), *[op.ints(v) for v in (begin, end, axes, step)])
    return op.emit("Squeeze", y, op.ints(squeezed)) if squeezed else y


def _mask(attributes: dict[str, Any], key: str, index: int) -> bool:
    mask = attributes.get(key) or []
    return index < len(mask) and bool(mask[index])


def slice_(op: Operator) -> Made:
    """A slice along given axes."""
    axes = op.int64(4) if len(op) > 4 else op.ints(range(len(op.shape(0))))
    return op.emit("Slice", op.value(0), op.int64(1), op.int64(2), axes, op.int64(3))


def gather(op: Operator) -> Made:
    """Elements by index along an axis."""
    if op.attributes.get("batch_dims"):
        raise op.unsupported(f"batch_dims {op.attributes['batch_dims']}")
    return op.emit("Gather", op.value(0), op.value(1), axis=op.integers(2)[0])


def shape_of(op: Operator) -> Made:
    """The shape as integers."""
    y = op.emit("Shape", op.value(0))
    return y if op.dtype() == "i64" else op.emit("Cast", y, to=TYPES[op.dtype()])


def pad(op: Operator) -> Made:
    """Elements around an array."""
    mode = str(op.attributes.get("pad_mode", "constant")).lower()
    if mode not in ("constant", "edge", "reflect"):
        raise op.unsupported(f"pad_mode {mode!r}")
    inputs = [op.value(0), op.ints([*op.integers(1), *op.integers(2)])]
    if len(op) > 3:
        inputs.append(op.value(3))
    return op.emit("Pad", *inputs, mode=mode)


def interpolate(op: Operator) -> Made:
    """An image of another size."""
    a = op.attributes
    mode = {"nearest": "nearest", "linear": "linear", "linear_onnx": "linear", "cubic": "cubic"}
    way, rounding = str(a["mode"]), str(a.get("nearest_mode", "round_prefer_floor"))
    coordinates = str(a.get("coordinate_transformation_mode", "half_pixel"))
    if way not in mode or coordinates == "tf_half_pixel_for_nn" or a.get("antialias"):
        raise op.unsupported(f"mode {way!r}, {coordinates!r}, antialias {a.get('antialias')}")
    if any([*a.get("pads_begin", []), *a.get("pads_end", [])]):
        raise op.unsupported("pads")
    sizes = "sizes" in str(a.get("shape_calculation_mode", "sizes"))
    place = 3 if len(op) > 3 else 2
    newer = op.node.get_type_info().version_id not in ("opset1", "opset4")
    place = 2 if newer else place
    axes = op.integers(place) if len(op) > place else list(range(len(op.shape(0))))
    rank = len(op.shape(0))
    target = op.output_shape()
    known = [target[axis % rank] for axis in axes]
    extra: dict[str, Any] = {"axes": [axis % rank for axis in axes]}
    if way == "nearest":
        simple = rounding == "simple"
        extra["nearest_mode"] = "floor" if simple else rounding
    if way == "cubic":
        extra["cubic_coeff_a"] = float(a.get("cube_coeff", -0.75))
    extra.update(mode=mode[way], coordinate_transformation_mode=coordinates)
    if None not in known:
        return op.emit("Resize", op.value(0), "", "", op.ints([d or 0 for d in known]), **extra)
    if sizes:
        return op.emit("Resize", op.value(0), "", "", op.int64(1), **extra)
    return op.emit("Resize", op.value(0), "", op.value(1 if newer else 2), **extra)


def depth_to_space(op: Operator) -> Made:
    """Channels spread over space."""
    mode = "CRD" if "depth" in str(op.attributes["mode"]) else "DCR"
    size = int(op.attributes["block_size"])
    return op.emit("DepthToSpace", op.value(0), blocksize=size, mode=mode)


def broadcast(op: Operator) -> Made:
    """An array repeated to a shape."""
    if "explicit" in str(op.attributes.get("mode", "numpy")).lower():
        raise op.unsupported("mode 'explicit'")
    return op.emit("Expand", op.value(0), op.int64(1))


def tile(op: Operator) -> Made:
    """An array repeated."""
    return op.emit("Tile", op.value(0), op.int64(1))
