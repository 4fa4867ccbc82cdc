"""OpenVINO's operators in ONNX: one function each.

Source: OpenVINO operation sets, opset 1 to 16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from onnx import TensorProto

from accel.errors import UnsupportedError
from accel.importers.builder import MAX_ELEMENTS, GraphBuilder

Array = np.ndarray[Any, Any]
Made = str | Sequence[str]

TYPES = {
    "f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16, "f64": TensorProto.DOUBLE,
    "i8": TensorProto.INT8, "i16": TensorProto.INT16, "i32": TensorProto.INT32,
    "i64": TensorProto.INT64, "u8": TensorProto.UINT8, "u16": TensorProto.UINT16,
    "u32": TensorProto.UINT32, "u64": TensorProto.UINT64, "boolean": TensorProto.BOOL,
}  # fmt: skip
_NUMPY = {
    "f32": "float32", "f16": "float16", "f64": "float64", "i8": "int8", "i16": "int16",
    "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16", "u32": "uint32",
    "u64": "uint64", "boolean": "bool",
}  # fmt: skip


class Operator:
    """One node of an openvino.Model while it is lowered.

    Attributes
    ----------
    arrays : the value of each input that is constant, else None.
    """

    def __init__(
        self,
        graph: GraphBuilder,
        node: Any,
        arrays: Sequence[Array | None],
        value: Callable[[int], str],
    ) -> None:
        self.graph, self.node, self.arrays, self.value = graph, node, arrays, value
        self.name = str(node.get_friendly_name())
        self.attributes: dict[str, Any] = node.get_attributes()

    def __len__(self) -> int:
        return len(self.arrays)

    def unsupported(self, text: str) -> UnsupportedError:
        """An UnsupportedError that names this operator."""
        return UnsupportedError(
            f"model {self.graph.source!r}: operator {self.name!r} "
            f"({self.node.get_type_name()}): {text}"
        )

    def constant(self, index: int) -> Array:
        """An input that must be constant."""
        array = self.arrays[index]
        if array is None:
            raise self.unsupported(f"input {index} must be a constant")
        return array

    def integers(self, index: int) -> list[int]:
        """An input of constant integers."""
        return [int(v) for v in self.constant(index).reshape(-1)]

    def shape(self, index: int = 0) -> tuple[int | None, ...]:
        """Shape of an input, None where it is free."""
        return self._dims(self.node.get_input_partial_shape(index))

    def output_shape(self, index: int = 0) -> tuple[int | None, ...]:
        """Shape of an output."""
        return self._dims(self.node.get_output_partial_shape(index))

    def _dims(self, shape: Any) -> tuple[int | None, ...]:
        if shape.rank.is_dynamic:
            raise self.unsupported("a rank that is not known")
        return tuple(d.get_length() if d.is_static else None for d in shape)

    def dtype(self) -> str:
        """Element type of the output."""
        return str(self.node.get_output_element_type(0).get_type_name())

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns its output."""
        return self.graph.node(op_type, inputs, self.name, **attributes)

    def float(self, value: float) -> str:
        """A float32 scalar."""
        return self.graph.scalar(value, f"{self.name}/scalar")

    def ints(self, values: Sequence[int]) -> str:
        """An int64 vector."""
        return self.graph.ints(values, f"{self.name}/ints")

    def int64(self, index: int) -> str:
        """An input of integers, cast to int64."""
        array = self.arrays[index]
        if array is not None:
            return self.graph.constant(array.astype(np.int64), f"{self.name}/ints")
        return self.emit("Cast", self.value(index), to=TensorProto.INT64)


def _same(op_type: str, *keys: str) -> Callable[[Operator], Made]:
    """An operator that ONNX has too; `keys` are attributes of one name and meaning."""

    def lower(op: Operator) -> Made:
        given = {k: op.attributes[k] for k in keys}
        return op.emit(op_type, *[op.value(i) for i in range(len(op))], **given)

    return lower


def _squared_difference(op: Operator) -> Made:
    y = op.emit("Sub", op.value(0), op.value(1))
    return op.emit("Mul", y, y)


def _swish(op: Operator) -> Made:
    x = op.value(0)
    inner = op.emit("Mul", x, op.value(1)) if len(op) > 1 else x
    return op.emit("Mul", x, op.emit("Sigmoid", inner))


def _gelu(op: Operator) -> Made:
    mode = str(op.attributes.get("approximation_mode", "ERF")).lower()
    return op.emit("Gelu", op.value(0), approximate="tanh" if mode == "tanh" else "none")


def _clamp(op: Operator) -> Made:
    if op.dtype() != "f32":
        raise op.unsupported(f"type {op.dtype()}; expected f32")
    low, high = float(op.attributes["min"]), float(op.attributes["max"])
    return op.emit("Clip", op.value(0), op.float(low), op.float(high))


def _prelu(op: Operator) -> Made:
    rank, slope = len(op.shape(0)), op.constant(1)
    if slope.ndim == 1 and rank > 1:  # per channel
        slope = slope.reshape(-1, *[1] * (rank - 2))
    return op.emit("PRelu", op.value(0), op.graph.constant(slope, f"{op.name}/slope"))


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


def _convolution(op: Operator, grouped: bool = False) -> Made:
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


def _transposed(op: Operator, grouped: bool = False) -> Made:
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


def _matmul(op: Operator) -> Made:
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


def _max_pool(op: Operator) -> Made:
    found = _window(op, op.attributes["kernel"])
    return op.emit("MaxPool", op.value(0), ceil_mode=_ceil(op), **found)


def _avg_pool(op: Operator) -> Made:
    found = _window(op, op.attributes["kernel"])
    if _ceil(op) and not op.attributes["exclude-pad"] and any(found.get("pads", [])):
        raise op.unsupported("an average that rounds up and counts its padding")
    include = int(not op.attributes["exclude-pad"])
    return op.emit(
        "AveragePool", op.value(0), ceil_mode=_ceil(op), count_include_pad=include, **found
    )


def _ceil(op: Operator) -> int:
    return int(str(op.attributes.get("rounding_type", "floor")) != "floor")


def _reduce(op: Operator, op_type: str) -> Made:
    keep, axes = int(op.attributes["keep_dims"]), op.integers(1)
    rank = len(op.shape(0))
    spatial = sorted(a % rank for a in axes) == [*range(2, rank)] if rank else False
    if op_type == "ReduceMean" and keep and rank == 4 and spatial:
        return op.emit("GlobalAveragePool", op.value(0))
    return op.emit(op_type, op.value(0), op.ints(axes), keepdims=keep)


def _axis(op: Operator, op_type: str) -> Made:
    return op.emit(op_type, op.value(0), axis=int(op.attributes["axis"]))


def _concat(op: Operator) -> Made:
    values = [op.value(i) for i in range(len(op))]
    return op.emit("Concat", *values, axis=int(op.attributes["axis"]))


def _reshape(op: Operator) -> Made:
    shape = op.output_shape()
    if shape.count(None) <= 1:  # what OpenVINO worked out, one size left to the run
        return op.emit("Reshape", op.value(0), op.ints([-1 if d is None else d for d in shape]))
    if op.arrays[1] is None or op.attributes.get("special_zero"):
        return op.emit("Reshape", op.value(0), op.int64(1))
    return op.emit("Reshape", op.value(0), op.int64(1), allowzero=1)


def _squeeze(op: Operator, op_type: str) -> Made:
    inputs = [op.value(0)]
    if len(op) > 1:
        inputs.append(op.ints(op.integers(1)))
    return op.emit(op_type, *inputs)


def _transpose(op: Operator) -> Made:
    return op.emit("Transpose", op.value(0), perm=op.integers(1))


def _split(op: Operator) -> Made:
    count = int(op.attributes["num_splits"])
    names = [f"{op.name}/{i}" for i in range(count)]
    axis = op.integers(1)[0]
    return op.graph.nodes("Split", [op.value(0)], names, axis=axis, num_outputs=count)


def _variadic_split(op: Operator) -> Made:
    axis, lengths = op.integers(1)[0], op.integers(2)
    if lengths.count(-1):
        size = op.shape(0)[axis]
        if size is None or lengths.count(-1) > 1:
            raise op.unsupported(f"lengths {lengths} of a size that is not known")
        lengths[lengths.index(-1)] = size - sum(n for n in lengths if n != -1)
    names = [f"{op.name}/{i}" for i in range(len(lengths))]
    return op.graph.nodes("Split", [op.value(0), op.ints(lengths)], names, axis=axis)


def _strided_slice(op: Operator) -> Made:
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


def _slice(op: Operator) -> Made:
    axes = op.int64(4) if len(op) > 4 else op.ints(range(len(op.shape(0))))
    return op.emit("Slice", op.value(0), op.int64(1), op.int64(2), axes, op.int64(3))


def _gather(op: Operator) -> Made:
    if op.attributes.get("batch_dims"):
        raise op.unsupported(f"batch_dims {op.attributes['batch_dims']}")
    return op.emit("Gather", op.value(0), op.value(1), axis=op.integers(2)[0])


def _shape_of(op: Operator) -> Made:
    y = op.emit("Shape", op.value(0))
    return y if op.dtype() == "i64" else op.emit("Cast", y, to=TYPES[op.dtype()])


def _convert(op: Operator) -> Made:
    if op.dtype() not in TYPES:
        raise op.unsupported(f"type {op.dtype()}")
    if op.node.get_input_element_type(0) == op.node.get_output_element_type(0):
        return op.value(0)
    return op.emit("Cast", op.value(0), to=TYPES[op.dtype()])


def _pad(op: Operator) -> Made:
    mode = str(op.attributes.get("pad_mode", "constant")).lower()
    if mode not in ("constant", "edge", "reflect"):
        raise op.unsupported(f"pad_mode {mode!r}")
    inputs = [op.value(0), op.ints([*op.integers(1), *op.integers(2)])]
    if len(op) > 3:
        inputs.append(op.value(3))
    return op.emit("Pad", *inputs, mode=mode)


def _interpolate(op: Operator) -> Made:
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


def _fake_quantize(op: Operator) -> Made:
    """round((clip(x) - low) / step) * output step + output low, as FakeQuantize defines it."""
    x, low, high, out_low, out_high = (op.value(i) for i in range(5))
    steps = op.float(float(op.attributes["levels"]) - 1)
    y = op.emit("Min", op.emit("Max", x, low), high)
    y = op.emit("Div", op.emit("Sub", y, low), op.emit("Sub", high, low))
    y = op.emit("Div", op.emit("Round", op.emit("Mul", y, steps)), steps)
    return op.emit("Add", op.emit("Mul", y, op.emit("Sub", out_high, out_low)), out_low)


def _batch_norm(op: Operator) -> Made:
    values = [op.value(i) for i in range(5)]
    return op.emit("BatchNormalization", *values, epsilon=float(op.attributes["epsilon"]))


def _lrn(op: Operator) -> Made:
    if op.integers(1) != [1]:
        raise op.unsupported(f"axes {op.integers(1)}; expected channels")
    a = {k: float(op.attributes[k]) for k in ("alpha", "beta", "bias")}
    return op.emit("LRN", op.value(0), size=int(op.attributes["size"]), **a)


def _depth_to_space(op: Operator) -> Made:
    mode = "CRD" if "depth" in str(op.attributes["mode"]) else "DCR"
    size = int(op.attributes["block_size"])
    return op.emit("DepthToSpace", op.value(0), blocksize=size, mode=mode)


def _hard_sigmoid(op: Operator) -> Made:
    if len(op) == 1:
        return op.emit("HardSigmoid", op.value(0), alpha=1 / 6, beta=0.5)
    alpha, beta = (float(op.constant(i).reshape(())) for i in (1, 2))
    return op.emit("HardSigmoid", op.value(0), alpha=alpha, beta=beta)


def _elu(op: Operator) -> Made:
    return op.emit("Elu", op.value(0), alpha=float(op.attributes["alpha"]))


def _broadcast(op: Operator) -> Made:
    if "explicit" in str(op.attributes.get("mode", "numpy")).lower():
        raise op.unsupported("mode 'explicit'")
    return op.emit("Expand", op.value(0), op.int64(1))


def _tile(op: Operator) -> Made:
    return op.emit("Tile", op.value(0), op.int64(1))


OPERATORS: dict[str, Callable[[Operator], Made]] = {
    "Abs": _same("Abs"),
    "Add": _same("Add"),
    "AvgPool": _avg_pool,
    "BatchNormInference": _batch_norm,
    "Broadcast": _broadcast,
    "Ceiling": _same("Ceil"),
    "Clamp": _clamp,
    "Concat": _concat,
    "Convert": _convert,
    "Convolution": _convolution,
    "ConvolutionBackpropData": _transposed,
    "Cos": _same("Cos"),
    "DepthToSpace": _depth_to_space,
    "Divide": _same("Div"),
    "Elu": _elu,
    "Equal": _same("Equal"),
    "Erf": _same("Erf"),
    "Exp": _same("Exp"),
    "FakeQuantize": _fake_quantize,
    "Floor": _same("Floor"),
    "Gather": _gather,
    "Gelu": _gelu,
    "Greater": _same("Greater"),
    "GreaterEqual": _same("GreaterOrEqual"),
    "GroupConvolution": partial(_convolution, grouped=True),
    "GroupConvolutionBackpropData": partial(_transposed, grouped=True),
    "HSigmoid": _hard_sigmoid,
    "HSwish": _same("HardSwish"),
    "HardSigmoid": _hard_sigmoid,
    "Interpolate": _interpolate,
    "LRN": _lrn,
    "Less": _same("Less"),
    "LessEqual": _same("LessOrEqual"),
    "Log": _same("Log"),
    "LogSoftmax": partial(_axis, op_type="LogSoftmax"),
    "LogicalAnd": _same("And"),
    "LogicalNot": _same("Not"),
    "LogicalOr": _same("Or"),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Maximum": _same("Max"),
    "Minimum": _same("Min"),
    "Mish": _same("Mish"),
    "Multiply": _same("Mul"),
    "Negative": _same("Neg"),
    "NotEqual": lambda op: op.emit("Not", op.emit("Equal", op.value(0), op.value(1))),
    "PRelu": _prelu,
    "Pad": _pad,
    "Power": _same("Pow"),
    "ReduceMax": partial(_reduce, op_type="ReduceMax"),
    "ReduceMean": partial(_reduce, op_type="ReduceMean"),
    "ReduceMin": partial(_reduce, op_type="ReduceMin"),
    "ReduceProd": partial(_reduce, op_type="ReduceProd"),
    "ReduceSum": partial(_reduce, op_type="ReduceSum"),
    "Relu": _same("Relu"),
    "Reshape": _reshape,
    "Select": _same("Where"),
    "ShapeOf": _shape_of,
    "Sigmoid": _same("Sigmoid"),
    "Sign": _same("Sign"),
    "Sin": _same("Sin"),
    "Slice": _slice,
    "SoftPlus": _same("Softplus"),
    "Softmax": partial(_axis, op_type="Softmax"),
    "Split": _split,
    "Sqrt": _same("Sqrt"),
    "SquaredDifference": _squared_difference,
    "Squeeze": partial(_squeeze, op_type="Squeeze"),
    "StridedSlice": _strided_slice,
    "Subtract": _same("Sub"),
    "Swish": _swish,
    "Tanh": _same("Tanh"),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": partial(_squeeze, op_type="Unsqueeze"),
    "VariadicSplit": _variadic_split,
}


def _folded_convert(op: Operator) -> Array | None:
    return op.constant(0).astype(_NUMPY[op.dtype()]) if op.dtype() in _NUMPY else None


def _folded_pair(op: Operator, function: Callable[[Array, Array], Any]) -> Array | None:
    a, b = op.constant(0), op.constant(1)
    if np.broadcast(a, b).size > MAX_ELEMENTS:
        return None
    return np.asarray(function(a, b), a.dtype)


def _folded_quantize(op: Operator) -> Array:
    x, low, high, out_low, out_high = (op.constant(i) for i in range(5))
    steps = float(op.attributes["levels"]) - 1
    y = np.round((np.minimum(np.maximum(x, low), high) - low) / (high - low) * steps) / steps
    return np.asarray(y * (out_high - out_low) + out_low, x.dtype)


# operators whose result on constants is needed at once: weights and shapes stored in parts
FOLDS: dict[str, Callable[[Operator], Array | None]] = {
    "Add": partial(_folded_pair, function=np.add),
    "Convert": _folded_convert,
    "FakeQuantize": _folded_quantize,
    "Multiply": partial(_folded_pair, function=np.multiply),
    "Reshape": lambda op: op.constant(0).reshape([d or 0 for d in op.output_shape()]),
    "Squeeze": lambda op: op.constant(0).reshape([d or 0 for d in op.output_shape()]),
    "Subtract": partial(_folded_pair, function=np.subtract),
    "Transpose": lambda op: op.constant(0).transpose(op.integers(1)),
    "Unsqueeze": lambda op: op.constant(0).reshape([d or 0 for d in op.output_shape()]),
}
