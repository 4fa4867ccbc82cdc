"""Keras's activations, by name inside a layer and as layers of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from accel.errors import UnsupportedError
from accel.importers.keras.layer import Layer, Shape, Tensor


def activated(layer: Layer, value: str, shape: Shape) -> Tensor:
    """The layer's own activation behind a value."""
    return activate(layer, Tensor(value, shape), layer.config.get("activation"))


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
    return layer.emit("Softmax", x.value, axis=x.stored_axis(axis))


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
