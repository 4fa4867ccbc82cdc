"""Convolution, its transpose and matrix product. Convolution rounds sizes down."""

from __future__ import annotations

import math
from typing import Any

from accel.importers.caffe.layer import Blob, Layer


def convolution(layer: Layer) -> list[Blob]:
    """Convolution; with groups, dilation, and kernels that are not square."""
    p, x = layer.parameters("convolution"), layer.image()
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
    p, x = layer.parameters("convolution"), layer.image()
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
        pairs.append(layer.sides(name, given * 2 if len(given) == 1 else given, least))
    return pairs[0], pairs[1], pairs[2], pairs[3]


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
