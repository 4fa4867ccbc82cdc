"""LRN, BatchNorm, Scale and Bias."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.importers.caffe.layer import MAX_SIDE, Blob, Layer, choice

Array = np.ndarray[Any, Any]


def lrn(layer: Layer) -> list[Blob]:
    """x / (k + alpha / n * sum of squares)^beta over n channels; or, within a channel,
    x / (1 + alpha * mean of squares)^beta over a square of side n."""
    p, x = layer.parameters("lrn"), layer.image()
    n = p.local_size
    if n < 1 or n % 2 == 0 or n > MAX_SIDE:
        raise layer.error(f"has local_size {n}; expected an odd number")
    if choice(p, "norm_region") == "ACROSS_CHANNELS":
        y = layer.emit("LRN", x.value, size=n, alpha=p.alpha, beta=p.beta, bias=p.k)
        return layer.same(y)
    square = layer.emit("Mul", x.value, x.value)
    mean = layer.emit(
        "AveragePool", square, kernel_shape=[n, n], pads=[n // 2] * 4, count_include_pad=1
    )
    scaled = layer.affine(mean, p.alpha, 1.0)
    power = layer.emit("Pow", scaled, layer.constant(np.array(-p.beta, np.float32), "power"))
    return layer.same(layer.emit("Mul", x.value, power))


def batch_norm(layer: Layer) -> list[Blob]:
    """(x - mean) / sqrt(variance + eps); the file holds both times a third blob."""
    channels, eps = layer.channels(), layer.parameters("batch_norm").eps
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
    return layer.same(layer.emit("BatchNormalization", layer.x.value, *names, epsilon=eps))


def scale(layer: Layer) -> list[Blob]:
    """x * scale + bias, broadcast from `axis` on."""
    p, x = layer.parameters("scale"), layer.x
    if len(layer.inputs) == 2:
        axis = layer.axis(p.axis)
        factor = _spread(layer, layer.inputs[1], axis)
        y = layer.emit("Mul", x.value, factor)
        if p.bias_term:
            y = layer.emit("Add", y, _blob_from(layer, 0, layer.inputs[1].shape, axis, "bias"))
        return layer.same(y)
    axis, shape = _broadcast(layer, p.axis, p.num_axes)
    if axis == 1 and len(shape) == 1:  # a form that folds into the convolution before it
        gamma = layer.weight(0, shape)
        beta = layer.weight(1, shape) if p.bias_term else np.zeros(shape)
        return _normalized(layer, gamma, beta, np.zeros(shape), np.ones(shape), 0.0)
    y = layer.emit("Mul", x.value, _blob_from(layer, 0, shape, axis, "scale"))
    if p.bias_term:
        y = layer.emit("Add", y, _blob_from(layer, 1, shape, axis, "bias"))
    return layer.same(y)


def bias(layer: Layer) -> list[Blob]:
    """x + bias, broadcast from `axis` on."""
    p = layer.parameters("bias")
    if len(layer.inputs) == 2:
        other = _spread(layer, layer.inputs[1], layer.axis(p.axis))
    else:
        axis, shape = _broadcast(layer, p.axis, p.num_axes)
        other = _blob_from(layer, 0, shape, axis, "bias")
    return layer.same(layer.emit("Add", layer.x.value, other))


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
