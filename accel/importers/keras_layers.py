"""Keras's layers in ONNX: one function each. Images are channels last in Keras and channels first
in the graph, so a `Tensor` remembers both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from accel.errors import ModelError, UnsupportedError
from accel.importers.builder import MAX_ELEMENTS, GraphBuilder

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]

MAX_SIDE = 1 << 16  # of a kernel, stride, pad or dilation


@dataclass(frozen=True)
class Tensor:
    """A value: its name in the graph, where images are (N, C, H, W), and its shape in Keras."""

    value: str
    shape: Shape

    @classmethod
    def from_keras(cls, graph: GraphBuilder, value: str, shape: Shape) -> Tensor:
        """A value in Keras's layout."""
        if len(shape) != 4:
            return cls(value, shape)
        return cls(graph.node("Transpose", [value], f"{value}/nchw", perm=[0, 3, 1, 2]), shape)

    def as_keras(self, graph: GraphBuilder) -> str:
        """The name of this value in Keras's layout."""
        if len(self.shape) != 4:
            return self.value
        return graph.node("Transpose", [self.value], f"{self.value}/nhwc", perm=[0, 2, 3, 1])

    @property
    def channels(self) -> int | None:
        return self.shape[-1]


class Layer:
    """One call of a layer while it is lowered."""

    def __init__(
        self,
        graph: GraphBuilder,
        name: str,
        kind: str,
        config: dict[str, Any],
        inputs: list[Tensor],
        weights: list[Array],
        newer: bool,
    ) -> None:
        self.graph, self.name, self.kind, self.config = graph, name, kind, config
        self.inputs, self.weights, self.newer = inputs, weights, newer
        if config.get("data_format", "channels_last") not in ("channels_last", None):
            raise UnsupportedError(f"{self}: data_format {config['data_format']!r}")
        if not inputs:
            raise self.error("has no input")

    def __str__(self) -> str:
        return f"model {self.graph.source!r}: layer {self.name!r} ({self.kind})"

    @property
    def x(self) -> Tensor:
        return self.inputs[0]

    def error(self, text: str) -> ModelError:
        """A ModelError that names this layer."""
        return ModelError(f"{self} {text}")

    def image(self) -> Tensor:
        """The input, checked to be an image."""
        if len(self.x.shape) != 4:
            raise self.error(f"has an input of shape {self.x.shape}; expected (N, H, W, C)")
        return self.x

    def weight(self, index: int, *shape: int) -> Array:
        """A weight, checked against the shape that the configuration asks for."""
        found = self.weights[index].shape if index < len(self.weights) else None
        if found != shape:
            raise self.error(f"needs weight {index} of shape {shape}; the file has {found}")
        return self.weights[index]

    def constant(self, array: Array, suffix: str) -> str:
        return self.graph.constant(array.astype(np.float32), f"{self.name}/{suffix}")

    def ints(self, values: Sequence[int], suffix: str) -> str:
        return self.graph.ints(values, f"{self.name}/{suffix}")

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        return self.graph.node(op_type, inputs, self.name, **attributes)

    def number(self, key: str, default: int, least: int = 1) -> int:
        """An integer of the configuration, checked."""
        value = self.config.get(key, default)
        if type(value) is not int or not least <= value <= MAX_ELEMENTS:
            raise self.error(f"has {key} {value!r}; expected an integer of at least {least}")
        return value

    def pair(self, key: str, default: Any = 1) -> list[int]:
        """Two sides of the configuration, checked."""
        value = self.config.get(key, default)
        value = default if value is None else value
        pair = list(value) if isinstance(value, (list, tuple)) else [value, value]
        if len(pair) != 2 or any(type(v) is not int or not 1 <= v <= MAX_SIDE for v in pair):
            raise self.error(f"has {key} {value!r}; expected two integers in 1..{MAX_SIDE}")
        return pair

    def activated(self, value: str, shape: Shape) -> Tensor:
        """The layer's own activation behind a value."""
        return activate(self, Tensor(value, shape), self.config.get("activation"))


def activate(layer: Layer, x: Tensor, activation: Any) -> Tensor:
    """An activation given by its Keras name."""
    if isinstance(activation, dict):
        inner = activation.get("config", {})
        activation = inner if isinstance(inner, str) else activation.get("class_name")
    if activation in (None, "linear"):
        return x
    if activation not in ACTIVATIONS:
        raise UnsupportedError(f"{layer}: activation {activation!r} is not known")
    return Tensor(ACTIVATIONS[activation](layer, x), x.shape)


def _softmax(layer: Layer, x: Tensor, axis: int = -1) -> str:
    axis = axis % len(x.shape)
    return layer.emit("Softmax", x.value, axis=_stored_axis(axis, x))


def _stored_axis(axis: int, x: Tensor) -> int:
    """Where an axis of Keras's layout lies in the graph."""
    return (0, 2, 3, 1)[axis] if len(x.shape) == 4 else axis


def _clip(layer: Layer, x: Tensor, low: float, high: float) -> str:
    bounds = [layer.constant(np.array(v), "bound") for v in (low, high)]
    return layer.emit("Clip", x.value, *bounds)


def _hard_sigmoid(layer: Layer, x: Tensor) -> str:
    return layer.emit("HardSigmoid", x.value, alpha=1 / 6 if layer.newer else 0.2, beta=0.5)


def _swish(layer: Layer, x: Tensor) -> str:
    return layer.emit("Mul", x.value, layer.emit("Sigmoid", x.value))


def _plain(op_type: str, **attributes: Any) -> Callable[[Layer, Tensor], str]:
    return lambda layer, x: layer.emit(op_type, x.value, **attributes)


ACTIVATIONS: dict[str, Callable[[Layer, Tensor], str]] = {
    "elu": _plain("Elu", alpha=1.0),
    "exponential": _plain("Exp"),
    "gelu": _plain("Gelu"),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _plain("HardSwish"),
    "hard_swish": _plain("HardSwish"),
    "leaky_relu": _plain("LeakyRelu", alpha=0.2),
    "relu": _plain("Relu"),
    "relu6": partial(_clip, low=0, high=6),
    "selu": _plain("Selu"),
    "sigmoid": _plain("Sigmoid"),
    "silu": _swish,
    "softmax": _softmax,
    "softplus": _plain("Softplus"),
    "softsign": _plain("Softsign"),
    "swish": _swish,
    "tanh": _plain("Tanh"),
}


def conv2d(layer: Layer) -> Tensor:
    """Convolution; with groups and dilation."""
    x, filters, groups = layer.image(), layer.number("filters", 0), layer.number("groups", 1)
    ic = _known_channels(layer, x)
    if ic % groups or filters % groups:
        raise layer.error(f"has groups {groups} for {ic} channels and {filters} filters")
    weight = layer.weight(0, *layer.pair("kernel_size"), ic // groups, filters)
    bias = [layer.weight(1, filters)] if layer.config.get("use_bias", True) else []
    y = _convolve(layer, x, weight.transpose(3, 2, 0, 1), bias, groups)
    return layer.activated(y.value, y.shape)


def depthwise_conv2d(layer: Layer) -> Tensor:
    """Convolution of every channel alone."""
    x, weight = layer.image(), _depthwise_weight(layer)
    bias = [layer.weight(1, len(weight))] if layer.config.get("use_bias", True) else []
    y = _convolve(layer, x, weight, bias, _known_channels(layer, x))
    return layer.activated(y.value, y.shape)


def separable_conv2d(layer: Layer) -> Tensor:
    """Convolution of every channel alone, then across channels."""
    x, filters = layer.image(), layer.number("filters", 0)
    depthwise = _depthwise_weight(layer)
    y = _convolve(layer, x, depthwise, [], _known_channels(layer, x))
    weight = layer.weight(1, 1, 1, len(depthwise), filters).transpose(3, 2, 0, 1)
    bias = [layer.weight(2, filters)] if layer.config.get("use_bias", True) else []
    names = [layer.constant(a, "weight") for a in (weight, *bias)]
    return layer.activated(layer.emit("Conv", y.value, *names), (*y.shape[:3], filters))


def _depthwise_weight(layer: Layer) -> Array:
    """(C * multiplier, 1, KH, KW)."""
    kh, kw = layer.pair("kernel_size")
    channels, m = _known_channels(layer, layer.x), layer.number("depth_multiplier", 1)
    weight = layer.weight(0, kh, kw, channels, m)
    return weight.transpose(2, 3, 0, 1).reshape(channels * m, 1, kh, kw)


def _convolve(layer: Layer, x: Tensor, weight: Array, bias: list[Array], groups: int) -> Tensor:
    attributes, size = _window(layer, x, list(weight.shape[2:]), layer.pair("dilation_rate"))
    names = [layer.constant(a, "weight") for a in (weight, *bias)]
    y = layer.emit("Conv", x.value, *names, group=groups, **attributes)
    return Tensor(y, (x.shape[0], *size, len(weight)))


def _window(
    layer: Layer, x: Tensor, kernel: list[int], dilations: list[int], strides: Any = 1
) -> tuple[dict[str, Any], list[int | None]]:
    """Attributes of a sliding window, and the size of its output."""
    strides, padding = layer.pair("strides", strides), layer.config.get("padding", "valid")
    if padding not in ("same", "valid"):
        raise UnsupportedError(f"{layer}: padding {padding!r}")
    size: list[int | None] = []
    for i, k, s, d in zip(x.shape[1:3], kernel, strides, dilations, strict=True):
        reach = d * (k - 1) if padding == "valid" else 0
        size.append(None if i is None else -(-(i - reach) // s))
        if i is not None and i <= reach:
            raise layer.error(f"has kernel {kernel} and an input of shape {x.shape}")
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if dilations != [1, 1]:
        attributes["dilations"] = dilations
        if padding == "same":  # ONNX Runtime refuses auto_pad here
            if strides != [1, 1]:
                raise UnsupportedError(f"{layer}: strides {strides} and dilation {dilations}")
            total = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
            pads = [*(t // 2 for t in total), *(t - t // 2 for t in total)]
            return {**attributes, "pads": pads}, size
    return {**attributes, "auto_pad": "SAME_UPPER" if padding == "same" else "VALID"}, size


def _known_channels(layer: Layer, x: Tensor) -> int:
    if x.channels is None:
        raise layer.error(f"has an input of shape {x.shape}; its channels must be known")
    return x.channels


def dense(layer: Layer) -> Tensor:
    """Matrix product over the last axis."""
    x, units = layer.x, layer.number("units", 0)
    weight = layer.constant(layer.weight(0, _known_channels(layer, x), units), "weight")
    bias = [layer.constant(layer.weight(1, units), "bias")] if _has_bias(layer) else []
    if len(x.shape) == 2:
        return layer.activated(layer.emit("Gemm", x.value, weight, *bias), (x.shape[0], units))
    y = layer.emit("MatMul", x.as_keras(layer.graph), weight)
    y = layer.emit("Add", y, *bias) if bias else y
    shape = (*x.shape[:-1], units)
    stored = Tensor.from_keras(layer.graph, y, shape)
    return layer.activated(stored.value, shape)


def _has_bias(layer: Layer) -> bool:
    return bool(layer.config.get("use_bias", True))


def batch_normalization(layer: Layer) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta."""
    x, channels = layer.x, _known_channels(layer, layer.x)
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


def activation(layer: Layer) -> Tensor:
    """An activation as a layer of its own."""
    return activate(layer, layer.x, layer.config.get("activation"))


def relu(layer: Layer) -> Tensor:
    """max(x, 0), bounded above where max_value is given, with a slope below zero."""
    most, slope = layer.config.get("max_value"), layer.config.get("negative_slope") or 0.0
    if layer.config.get("threshold"):
        raise UnsupportedError(f"{layer}: threshold {layer.config['threshold']}")
    if most is not None and slope:
        raise UnsupportedError(f"{layer}: max_value and negative_slope together")
    if most is not None:
        return Tensor(_clip(layer, layer.x, 0.0, float(most)), layer.x.shape)
    if slope:
        return Tensor(layer.emit("LeakyRelu", layer.x.value, alpha=float(slope)), layer.x.shape)
    return Tensor(layer.emit("Relu", layer.x.value), layer.x.shape)


def leaky_relu(layer: Layer) -> Tensor:
    """x above zero, a fixed slope below."""
    slope = layer.config.get("alpha", layer.config.get("negative_slope", 0.3))
    return Tensor(layer.emit("LeakyRelu", layer.x.value, alpha=float(slope)), layer.x.shape)


def elu(layer: Layer) -> Tensor:
    """x above zero, alpha (exp(x) - 1) below."""
    y = layer.emit("Elu", layer.x.value, alpha=float(layer.config.get("alpha", 1.0)))
    return Tensor(y, layer.x.shape)


def prelu(layer: Layer) -> Tensor:
    """A learned slope below zero; axes may share it."""
    slope = layer.weights[0] if layer.weights else np.zeros(0)
    fits = slope.ndim == len(layer.x.shape) - 1 and all(
        have in (1, want) for have, want in zip(slope.shape, layer.x.shape[1:], strict=True)
    )
    if not fits:
        raise layer.error(f"has a slope of shape {slope.shape} for {layer.x.shape}")
    slope = slope.transpose(2, 0, 1) if slope.ndim == 3 else slope
    return Tensor(layer.emit("PRelu", layer.x.value, layer.constant(slope, "slope")), layer.x.shape)


def softmax(layer: Layer) -> Tensor:
    """exp(x) over its sum along an axis."""
    axis = layer.config.get("axis", -1)
    rank = len(layer.x.shape)
    if type(axis) is not int or not -rank <= axis < rank:
        raise layer.error(f"has axis {axis!r} for {rank} dimensions")
    return Tensor(_softmax(layer, layer.x, axis), layer.x.shape)


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
    y = layer.emit("Concat", *values, axis=_stored_axis(axis, layer.x))
    return Tensor(y, (*layer.x.shape[:axis], total, *layer.x.shape[axis + 1 :]))


def pooling(layer: Layer) -> Tensor:
    """MaxPooling2D and AveragePooling2D; an average leaves the padding out."""
    x, kernel = layer.image(), layer.pair("pool_size", 2)
    attributes, size = _window(layer, x, kernel, [1, 1], strides=kernel)
    op_type = "MaxPool" if layer.kind.startswith("Max") else "AveragePool"
    return Tensor(layer.emit(op_type, x.value, **attributes), (x.shape[0], *size, x.channels))


def global_pooling(layer: Layer) -> Tensor:
    """GlobalMaxPooling2D and GlobalAveragePooling2D."""
    x = layer.image()
    op_type = "GlobalMaxPool" if "Max" in layer.kind else "GlobalAveragePool"
    y = layer.emit(op_type, x.value)
    if layer.config.get("keepdims"):
        return Tensor(y, (x.shape[0], 1, 1, x.channels))
    return Tensor(layer.emit("Flatten", y), (x.shape[0], x.channels))


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


def rescaling(layer: Layer) -> Tensor:
    """x * scale + offset."""
    factor, offset = (layer.config.get(k, d) for k, d in (("scale", 1.0), ("offset", 0.0)))
    if not all(isinstance(v, (int, float)) for v in (factor, offset)):
        raise UnsupportedError(f"{layer}: scale {factor!r}, offset {offset!r}")
    y = layer.emit("Mul", layer.x.value, layer.constant(np.array(factor), "scale"))
    y = layer.emit("Add", y, layer.constant(np.array(offset), "offset"))
    return Tensor(y, layer.x.shape)


def identity(layer: Layer) -> Tensor:
    """Layers that act in training only."""
    return layer.x


LAYERS: dict[str, Callable[[Layer], Tensor]] = {
    "Activation": activation,
    "ActivityRegularization": identity,
    "Add": merge,
    "AlphaDropout": identity,
    "Average": merge,
    "AveragePooling2D": pooling,
    "BatchNormalization": batch_normalization,
    "Concatenate": concatenate,
    "Conv2D": conv2d,
    "Dense": dense,
    "DepthwiseConv2D": depthwise_conv2d,
    "Dropout": identity,
    "ELU": elu,
    "Flatten": flatten,
    "GaussianDropout": identity,
    "GaussianNoise": identity,
    "GlobalAveragePooling2D": global_pooling,
    "GlobalMaxPooling2D": global_pooling,
    "LeakyReLU": leaky_relu,
    "MaxPooling2D": pooling,
    "Maximum": merge,
    "Minimum": merge,
    "Multiply": merge,
    "PReLU": prelu,
    "ReLU": relu,
    "Rescaling": rescaling,
    "Reshape": reshape,
    "SeparableConv2D": separable_conv2d,
    "Softmax": softmax,
    "SpatialDropout2D": identity,
    "Subtract": merge,
    "UpSampling2D": up_sampling2d,
    "ZeroPadding2D": zero_padding2d,
}
