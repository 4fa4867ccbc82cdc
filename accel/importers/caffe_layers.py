"""Caffe's layers in ONNX: one function each, from a `Layer` to its outputs.

Sizes are Caffe's own: convolution rounds down, pooling rounds up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accel.errors import UnsupportedError
from accel.importers.caffe_detection import detection_output, normalize, prior_box
from accel.importers.caffe_layer import Blob, Layer

Array = np.ndarray[Any, Any]

MAX_SIDE = 1 << 16  # of a kernel, stride, pad or dilation


def convolution(layer: Layer) -> list[Blob]:
    """Convolution; with groups, dilation, and kernels that are not square."""
    p, x = layer.parameters("convolution"), _image(layer)
    kernel, strides, pads, dilations = _window(layer)
    _, channels, *spatial = x.shape
    _check_groups(layer, channels, p.num_output, p.group)
    weight = layer.weight(0, (p.num_output, channels // p.group, *kernel))
    size = [
        (i + 2 * q - d * (k - 1) - 1) // s + 1
        for i, k, s, q, d in zip(spatial, kernel, strides, pads, dilations, strict=True)
    ]
    y = layer.emit(
        "Conv", x.value, layer.constant(weight, "weight"), *_bias(layer, p), group=p.group,
        kernel_shape=kernel, strides=strides, pads=[*pads, *pads], dilations=dilations,
    )  # fmt: skip
    return layer.result(y, x.shape[0], p.num_output, *size)


def deconvolution(layer: Layer) -> list[Blob]:
    """Transposed convolution."""
    p, x = layer.parameters("convolution"), _image(layer)
    kernel, strides, pads, dilations = _window(layer)
    _, channels, *spatial = x.shape
    _check_groups(layer, channels, p.num_output, p.group)
    weight = layer.weight(0, (channels, p.num_output // p.group, *kernel))
    size = [
        s * (i - 1) + d * (k - 1) + 1 - 2 * q
        for i, k, s, q, d in zip(spatial, kernel, strides, pads, dilations, strict=True)
    ]
    y = layer.emit(
        "ConvTranspose", x.value, layer.constant(weight, "weight"), *_bias(layer, p),
        group=p.group, kernel_shape=kernel, strides=strides, pads=[*pads, *pads],
        dilations=dilations,
    )  # fmt: skip
    return layer.result(y, x.shape[0], p.num_output, *size)


def _image(layer: Layer) -> Blob:
    if len(layer.x.shape) != 4:
        raise layer.error(f"has an input of shape {layer.x.shape}; expected (N, C, H, W)")
    return layer.x


def _bias(layer: Layer, p: Any) -> list[str]:
    if not getattr(p, "bias_term", True):
        return []
    return [layer.constant(layer.weight(1, (p.num_output,)), "bias")]


def _check_groups(layer: Layer, channels: int, outputs: int, groups: int) -> None:
    if groups < 1 or outputs < 1 or channels % groups or outputs % groups:
        raise layer.error(f"has group {groups}, {channels} channels and {outputs} outputs")


def _window(layer: Layer) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, strides, pads and dilations, two each."""
    p = layer.parameters("convolution")
    if p.axis != 1:
        raise layer.error(f"has axis {p.axis}; only 1 is supported")
    pairs = []
    for name, short, default, least in (
        ("kernel_size", "kernel", 0, 1), ("stride", "stride", 1, 1), ("pad", "pad", 0, 0),
        ("dilation", "", 1, 1),
    ):  # fmt: skip
        given = list(getattr(p, name)) or [default]
        if short and (p.HasField(f"{short}_h") or p.HasField(f"{short}_w")):
            given = [getattr(p, f"{short}_h"), getattr(p, f"{short}_w")]
        pairs.append(_sides(layer, name, given * 2 if len(given) == 1 else given, least))
    return pairs[0], pairs[1], pairs[2], pairs[3]


def _sides(layer: Layer, name: str, pair: list[int], least: int) -> list[int]:
    if len(pair) != 2 or any(not least <= v <= MAX_SIDE for v in pair):
        raise layer.error(f"has {name} {pair}; expected two values in {least}..{MAX_SIDE}")
    return pair


def inner_product(layer: Layer) -> list[Blob]:
    """Matrix product over all axes from `axis` on."""
    p, x = layer.parameters("inner_product"), layer.x
    axis = layer.axis(p.axis)
    k = math.prod(x.shape[axis:])
    weight = layer.weight(0, (k, p.num_output) if p.transpose else (p.num_output, k))
    flat = layer.reshape(x, (*x.shape[:axis], k))[0] if len(x.shape) != axis + 1 else x
    shape = (*x.shape[:axis], p.num_output)
    if axis == 1:
        inputs = [flat.value, layer.constant(weight, "weight"), *_bias(layer, p)]
        return layer.result(layer.emit("Gemm", *inputs, transB=int(not p.transpose)), *shape)
    matrix = layer.constant(weight if p.transpose else weight.T, "weight")
    y = layer.emit("MatMul", flat.value, matrix)
    for bias in _bias(layer, p):
        y = layer.emit("Add", y, bias)
    return layer.result(y, *shape)


def pooling(layer: Layer) -> list[Blob]:
    """Max and average pooling. Sizes round up, yet no window starts outside image and padding;
    an average divides by the window's part inside image and padding."""
    p, x = layer.parameters("pooling"), _image(layer)
    method = _choice(p, "pool")
    if method == "STOCHASTIC" or layer.tops != 1:
        raise UnsupportedError(
            f"model {layer.net.source!r}: layer {layer.name!r}: pooling with {layer.tops} tops, "
            f"method {method}; only MAX and AVE with one top are supported"
        )
    size = x.shape[2:]
    kernel = list(size) if p.global_pooling else _pair(layer, p, "kernel", p.kernel_size, 1)
    strides, pads = _pair(layer, p, "stride", p.stride, 1), _pair(layer, p, "pad", p.pad, 0)
    down = _choice(p, "round_mode") == "FLOOR" or not p.ceil_mode
    if any(q >= k for q, k in zip(pads, kernel, strict=True)):
        raise layer.error(f"has pad {pads} and kernel {kernel}; a pad must be smaller")
    out, ends = [], []
    for i, k, s, q in zip(size, kernel, strides, pads, strict=True):
        n = _pooled(i, k, s, q, down)
        out.append(n)
        ends.append((n - 1) * s + k - i - q)
        if (n - 1) * s >= i + q:
            raise layer.error(f"has windows outside its input: kernel {kernel}, strides {strides}")
    shape = (*x.shape[:2], *out)
    layer.checked(shape)
    attributes = {"kernel_shape": kernel, "strides": strides}
    if method == "MAX":
        ends = [max(e, 0) for e in ends]
        return layer.result(
            layer.emit("MaxPool", x.value, pads=[*pads, *ends], **attributes), *shape
        )
    return layer.result(_average(layer, x, pads, ends, attributes), *shape)


def _average(
    layer: Layer, x: Blob, pads: list[int], ends: list[int], attributes: dict[str, list[int]]
) -> str:
    over = [max(e - q, 0) for e, q in zip(ends, pads, strict=True)]
    if not any(over):  # all windows inside image and padding: divide by their full size
        ends = [max(e, 0) for e in ends]
        return layer.emit(
            "AveragePool", x.value, pads=[*pads, *ends], count_include_pad=1, **attributes
        )
    value = x.value
    if any(pads):  # the padding counts, what lies beyond does not
        sides = layer.constant(np.array([0, 0, *pads, 0, 0, *pads], np.int64), "pads")
        value = layer.emit("Pad", value, sides)
    return layer.emit("AveragePool", value, pads=[0, 0, *over], count_include_pad=0, **attributes)


def _pooled(size: int, kernel: int, stride: int, pad: int, down: bool) -> int:
    span = size + 2 * pad - kernel
    n = (span // stride if down else -(-span // stride)) + 1
    if pad and (n - 1) * stride >= size + pad:
        n -= 1
    return n


def _pair(layer: Layer, p: Any, name: str, both: int, least: int) -> list[int]:
    h, w = getattr(p, f"{name}_h"), getattr(p, f"{name}_w")
    return _sides(layer, name, [h, w] if h or w else [both, both], least)


def _choice(p: Any, field: str) -> str:
    """Name of an enum value."""
    values = p.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return str(values[getattr(p, field)].name)


def relu(layer: Layer) -> list[Blob]:
    """max(x, 0), or with a slope below zero."""
    slope = layer.parameters("relu").negative_slope
    if slope:
        return _same(layer, layer.emit("LeakyRelu", layer.x.value, alpha=slope))
    return _same(layer, layer.emit("Relu", layer.x.value))


def relu6(layer: Layer) -> list[Blob]:
    """min(max(x, 0), 6)."""
    bounds = [layer.constant(np.array(v, np.float32), n) for v, n in ((0, "lo"), (6, "hi"))]
    return _same(layer, layer.emit("Clip", layer.x.value, *bounds))


def prelu(layer: Layer) -> list[Blob]:
    """A learned slope below zero, per channel or shared."""
    channels = 1 if layer.parameters("prelu").channel_shared else _channels(layer)
    slope = layer.weight(0, (channels,)).reshape(-1, *[1] * (len(layer.x.shape) - 2))
    return _same(layer, layer.emit("PRelu", layer.x.value, layer.constant(slope, "slope")))


def elu(layer: Layer) -> list[Blob]:
    """x above zero, alpha (exp(x) - 1) below."""
    return _same(layer, layer.emit("Elu", layer.x.value, alpha=layer.parameters("elu").alpha))


def lrn(layer: Layer) -> list[Blob]:
    """x / (k + alpha / n * sum of squares)^beta over n channels; or, within a channel,
    x / (1 + alpha * mean of squares)^beta over a square of side n."""
    p, x = layer.parameters("lrn"), _image(layer)
    n = p.local_size
    if n < 1 or n % 2 == 0 or n > MAX_SIDE:
        raise layer.error(f"has local_size {n}; expected an odd number")
    if _choice(p, "norm_region") == "ACROSS_CHANNELS":
        return _same(
            layer, layer.emit("LRN", x.value, size=n, alpha=p.alpha, beta=p.beta, bias=p.k)
        )
    square = layer.emit("Mul", x.value, x.value)
    mean = layer.emit(
        "AveragePool", square, kernel_shape=[n, n], pads=[n // 2] * 4, count_include_pad=1
    )
    scaled = _affine(layer, mean, p.alpha, 1.0)
    power = layer.emit("Pow", scaled, layer.constant(np.array(-p.beta, np.float32), "power"))
    return _same(layer, layer.emit("Mul", x.value, power))


def batch_norm(layer: Layer) -> list[Blob]:
    """(x - mean) / sqrt(variance + eps); the file holds both times a third blob."""
    channels, eps = _channels(layer), layer.parameters("batch_norm").eps
    factor = float(layer.weight(2, (1,))[0])
    k = np.float32(0 if factor == 0 else 1 / factor)
    mean, variance = (layer.weight(i, (channels,)) * k for i in (0, 1))
    return _normalized(layer, np.ones(channels), np.zeros(channels), mean, variance, eps)


def _normalized(
    layer: Layer,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    eps: float,
) -> list[Blob]:
    arrays = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    names = [layer.constant(a.astype(np.float32), key) for key, a in arrays.items()]
    return _same(layer, layer.emit("BatchNormalization", layer.x.value, *names, epsilon=eps))


def scale(layer: Layer) -> list[Blob]:
    """x * scale + bias, broadcast from `axis` on."""
    p, x = layer.parameters("scale"), layer.x
    if len(layer.inputs) == 2:
        axis = layer.axis(p.axis)
        factor = _spread(layer, layer.inputs[1], axis)
        y = layer.emit("Mul", x.value, factor)
        if p.bias_term:
            y = layer.emit("Add", y, _blob_from(layer, 0, layer.inputs[1].shape, axis, "bias"))
        return _same(layer, y)
    axis, shape = _broadcast(layer, p.axis, p.num_axes)
    if axis == 1 and len(shape) == 1:  # a form that folds into the convolution before it
        gamma = layer.weight(0, shape)
        beta = layer.weight(1, shape) if p.bias_term else np.zeros(shape)
        return _normalized(layer, gamma, beta, np.zeros(shape), np.ones(shape), 0.0)
    y = layer.emit("Mul", x.value, _blob_from(layer, 0, shape, axis, "scale"))
    if p.bias_term:
        y = layer.emit("Add", y, _blob_from(layer, 1, shape, axis, "bias"))
    return _same(layer, y)


def bias(layer: Layer) -> list[Blob]:
    """x + bias, broadcast from `axis` on."""
    p = layer.parameters("bias")
    if len(layer.inputs) == 2:
        other = _spread(layer, layer.inputs[1], layer.axis(p.axis))
    else:
        axis, shape = _broadcast(layer, p.axis, p.num_axes)
        other = _blob_from(layer, 0, shape, axis, "bias")
    return _same(layer, layer.emit("Add", layer.x.value, other))


def _broadcast(layer: Layer, axis: int, count: int) -> tuple[int, tuple[int, ...]]:
    axis = layer.axis(axis)
    end = len(layer.x.shape) if count == -1 else axis + count
    if count < -1 or end > len(layer.x.shape):
        raise layer.error(f"has num_axes {count} from axis {axis} of shape {layer.x.shape}")
    return axis, layer.x.shape[axis:end]


def _blob_from(layer: Layer, index: int, shape: tuple[int, ...], axis: int, name: str) -> str:
    ones = len(layer.x.shape) - axis - len(shape)
    return layer.constant(layer.weight(index, shape).reshape(*shape, *[1] * ones), name)


def _spread(layer: Layer, other: Blob, axis: int) -> str:
    """A second input whose first axis lies at `axis` of the first input."""
    end = axis + len(other.shape)
    if layer.x.shape[axis:end] != other.shape:
        raise layer.error(f"has inputs of shapes {layer.x.shape} and {other.shape}, axis {axis}")
    if end == len(layer.x.shape):
        return other.value
    return layer.reshape(other, (*other.shape, *[1] * (len(layer.x.shape) - end)))[0].value


def eltwise(layer: Layer) -> list[Blob]:
    """Product, weighted sum or maximum of inputs of one shape."""
    p, operation = layer.parameters("eltwise"), _choice(layer.parameters("eltwise"), "operation")
    shapes = {blob.shape for blob in layer.inputs}
    if len(shapes) != 1:
        raise layer.error(f"has inputs of shapes {sorted(shapes)}; expected one shape")
    if p.coeff and (operation != "SUM" or len(p.coeff) != len(layer.inputs)):
        raise layer.error(f"has {len(p.coeff)} coeff for {operation} of {len(layer.inputs)} inputs")
    values = [blob.value for blob in layer.inputs]
    for i, coeff in enumerate(p.coeff):
        if coeff != 1:
            factor = layer.constant(np.array(coeff, np.float32), f"coeff{i}")
            values[i] = layer.emit("Mul", values[i], factor)
    op_type = {"PROD": "Mul", "SUM": "Add", "MAX": "Max"}[operation]
    y = values[0]
    for value in values[1:]:
        y = layer.emit(op_type, y, value)
    return _same(layer, y)


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
    return _same(layer, layer.emit("Softmax", layer.x.value, axis=axis))


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


def power(layer: Layer) -> list[Blob]:
    """(shift + scale x)^power."""
    p = layer.parameters("power")
    y = _affine(layer, layer.x.value, p.scale, p.shift)
    if p.power != 1:
        y = layer.emit("Pow", y, layer.constant(np.array(p.power, np.float32), "power"))
    return _same(layer, y)


def exp(layer: Layer) -> list[Blob]:
    """base^(shift + scale x), e where base is -1."""
    p = layer.parameters("exp")
    k = _log_base(layer, p.base)
    y = _affine(layer, layer.x.value, p.scale * k, p.shift * k)
    return _same(layer, layer.emit("Exp", y))


def log(layer: Layer) -> list[Blob]:
    """log to a base of (shift + scale x), natural where base is -1."""
    p = layer.parameters("log")
    k = _log_base(layer, p.base)
    if k == 0:
        raise layer.error("has base 1")
    y = layer.emit("Log", _affine(layer, layer.x.value, p.scale, p.shift))
    return _same(layer, _affine(layer, y, 1 / k, 0.0))


def _log_base(layer: Layer, base: float) -> float:
    if base == -1:
        return 1.0
    if not base > 0 or math.isinf(base):
        raise layer.error(f"has base {base}; expected a positive number, or -1 for e")
    return math.log(base)


def _affine(layer: Layer, value: str, factor: float, shift: float) -> str:
    if factor != 1:
        value = layer.emit("Mul", value, layer.constant(np.array(factor, np.float32), "factor"))
    if shift != 0:
        value = layer.emit("Add", value, layer.constant(np.array(shift, np.float32), "shift"))
    return value


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


def _unary(op_type: str) -> Callable[[Layer], list[Blob]]:
    return lambda layer: _same(layer, layer.emit(op_type, layer.x.value))


def _same(layer: Layer, value: str) -> list[Blob]:
    return [Blob(value, layer.x.shape)]


def _channels(layer: Layer) -> int:
    if len(layer.x.shape) < 2:
        raise layer.error(f"has an input of shape {layer.x.shape}; expected (N, C, ...)")
    return layer.x.shape[1]


LAYERS: dict[str, Callable[[Layer], Sequence[Blob]]] = {
    "AbsVal": _unary("Abs"),
    "BatchNorm": batch_norm,
    "Bias": bias,
    "BNLL": _unary("Softplus"),
    "Concat": concat,
    "Convolution": convolution,
    "ConvolutionDepthwise": convolution,
    "Crop": crop,
    "Deconvolution": deconvolution,
    "DepthwiseConvolution": convolution,
    "DetectionOutput": detection_output,
    "Dropout": identity,
    "ELU": elu,
    "Eltwise": eltwise,
    "Exp": exp,
    "Flatten": flatten,
    "InnerProduct": inner_product,
    "LRN": lrn,
    "Log": log,
    "Normalize": normalize,
    "PReLU": prelu,
    "Permute": permute,
    "Pooling": pooling,
    "Power": power,
    "PriorBox": prior_box,
    "ReLU": relu,
    "ReLU6": relu6,
    "Reshape": reshape,
    "Scale": scale,
    "Sigmoid": _unary("Sigmoid"),
    "Slice": slice_,
    "Softmax": softmax,
    "Split": identity,
    "TanH": _unary("Tanh"),
}
