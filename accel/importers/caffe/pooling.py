"""Pooling, with sizes that round up as Caffe computes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.errors import UnsupportedError
from accel.importers.caffe.layer import Blob, Layer, choice


def pooling(layer: Layer) -> list[Blob]:
    """Max and average pooling. Sizes round up, yet no window starts outside image and padding;
    an average divides by the window's part inside image and padding."""
    p, x = layer.parameters("pooling"), layer.image()
    method = choice(p, "pool")
    if method == "STOCHASTIC" or layer.tops != 1:
        raise UnsupportedError(
            f"model {layer.net.source!r}: layer {layer.name!r}: pooling with {layer.tops} tops, "
            f"method {method}; only MAX and AVE with one top are supported"
        )
    size = x.shape[2:]
    kernel = list(size) if p.global_pooling else _pair(layer, p, "kernel", p.kernel_size, 1)
    strides, pads = _pair(layer, p, "stride", p.stride, 1), _pair(layer, p, "pad", p.pad, 0)
    down = choice(p, "round_mode") == "FLOOR" or not p.ceil_mode
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
    return layer.sides(name, [h, w] if h or w else [both, both], least)
