"""Convolutions, Dense and poolings."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.errors import UnsupportedError
from accel.importers.keras.activations import activated
from accel.importers.keras.layer import Layer, Tensor

Array = np.ndarray[Any, Any]


def conv2d(layer: Layer) -> Tensor:
    """Convolution; with groups and dilation."""
    x, filters, groups = layer.image(), layer.number("filters", 0), layer.number("groups", 1)
    ic = layer.known_channels()
    if ic % groups or filters % groups:
        raise layer.error(f"has groups {groups} for {ic} channels and {filters} filters")
    weight = layer.weight(0, *layer.pair("kernel_size"), ic // groups, filters)
    bias = [layer.weight(1, filters)] if layer.config.get("use_bias", True) else []
    y = _convolve(layer, x, weight.transpose(3, 2, 0, 1), bias, groups)
    return activated(layer, y.value, y.shape)


def depthwise_conv2d(layer: Layer) -> Tensor:
    """Convolution of every channel alone."""
    x, weight = layer.image(), _depthwise_weight(layer)
    bias = [layer.weight(1, len(weight))] if layer.config.get("use_bias", True) else []
    y = _convolve(layer, x, weight, bias, layer.known_channels())
    return activated(layer, y.value, y.shape)


def separable_conv2d(layer: Layer) -> Tensor:
    """Convolution of every channel alone, then across channels."""
    x, filters = layer.image(), layer.number("filters", 0)
    depthwise = _depthwise_weight(layer)
    y = _convolve(layer, x, depthwise, [], layer.known_channels())
    weight = layer.weight(1, 1, 1, len(depthwise), filters).transpose(3, 2, 0, 1)
    bias = [layer.weight(2, filters)] if layer.config.get("use_bias", True) else []
    names = [layer.constant(a, "weight") for a in (weight, *bias)]
    return activated(layer, layer.emit("Conv", y.value, *names), (*y.shape[:3], filters))


def _depthwise_weight(layer: Layer) -> Array:
    """(C * multiplier, 1, KH, KW)."""
    kh, kw = layer.pair("kernel_size")
    channels, m = layer.known_channels(), layer.number("depth_multiplier", 1)
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


def dense(layer: Layer) -> Tensor:
    """Matrix product over the last axis."""
    x, units = layer.x, layer.number("units", 0)
    weight = layer.constant(layer.weight(0, layer.known_channels(), units), "weight")
    bias = [layer.constant(layer.weight(1, units), "bias")] if _has_bias(layer) else []
    if len(x.shape) == 2:
        return activated(layer, layer.emit("Gemm", x.value, weight, *bias), (x.shape[0], units))
    y = layer.emit("MatMul", x.as_keras(layer.graph), weight)
    y = layer.emit("Add", y, *bias) if bias else y
    shape = (*x.shape[:-1], units)
    stored = Tensor.from_keras(layer.graph, y, shape)
    return activated(layer, stored.value, shape)


def _has_bias(layer: Layer) -> bool:
    return bool(layer.config.get("use_bias", True))


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
