"""Layers that treat every element alone: activations, powers, and sums of several inputs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from accel.importers.caffe.layer import Blob, Layer, choice


def relu(layer: Layer) -> list[Blob]:
    """max(x, 0), or with a slope below zero."""
    slope = layer.parameters("relu").negative_slope
    if slope:
        return layer.same(layer.emit("LeakyRelu", layer.x.value, alpha=slope))
    return layer.same(layer.emit("Relu", layer.x.value))


def relu6(layer: Layer) -> list[Blob]:
    """min(max(x, 0), 6)."""
    bounds = [layer.constant(np.array(v, np.float32), n) for v, n in ((0, "lo"), (6, "hi"))]
    return layer.same(layer.emit("Clip", layer.x.value, *bounds))


def prelu(layer: Layer) -> list[Blob]:
    """A learned slope below zero, per channel or shared."""
    channels = 1 if layer.parameters("prelu").channel_shared else layer.channels()
    slope = layer.weight(0, (channels,)).reshape(-1, *[1] * (len(layer.x.shape) - 2))
    return layer.same(layer.emit("PRelu", layer.x.value, layer.constant(slope, "slope")))


def elu(layer: Layer) -> list[Blob]:
    """x above zero, alpha (exp(x) - 1) below."""
    return layer.same(layer.emit("Elu", layer.x.value, alpha=layer.parameters("elu").alpha))


def power(layer: Layer) -> list[Blob]:
    """(shift + scale x)^power."""
    p = layer.parameters("power")
    y = layer.affine(layer.x.value, p.scale, p.shift)
    if p.power != 1:
        y = layer.emit("Pow", y, layer.constant(np.array(p.power, np.float32), "power"))
    return layer.same(y)


def exp(layer: Layer) -> list[Blob]:
    """base^(shift + scale x), e where base is -1."""
    p = layer.parameters("exp")
    k = _log_base(layer, p.base)
    y = layer.affine(layer.x.value, p.scale * k, p.shift * k)
    return layer.same(layer.emit("Exp", y))


def log(layer: Layer) -> list[Blob]:
    """log to a base of (shift + scale x), natural where base is -1."""
    p = layer.parameters("log")
    k = _log_base(layer, p.base)
    if k == 0:
        raise layer.error("has base 1")
    y = layer.emit("Log", layer.affine(layer.x.value, p.scale, p.shift))
    return layer.same(layer.affine(y, 1 / k, 0.0))


def _log_base(layer: Layer, base: float) -> float:
    if base == -1:
        return 1.0
    if not base > 0 or math.isinf(base):
        raise layer.error(f"has base {base}; expected a positive number, or -1 for e")
    return math.log(base)


def eltwise(layer: Layer) -> list[Blob]:
    """Product, weighted sum or maximum of inputs of one shape."""
    p, operation = layer.parameters("eltwise"), choice(layer.parameters("eltwise"), "operation")
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
    return layer.same(y)


def unary(op_type: str) -> Callable[[Layer], list[Blob]]:
    """A layer that is one ONNX operator without parameters."""
    return lambda layer: layer.same(layer.emit(op_type, layer.x.value))
