"""A layer by our kernels, alone or with MKL's product inside them.

Activations are quantized in windows already; a product gives float32, a convolution (with ReLU) the
windows of the next layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from layer import Array, Layer

from accel import kernels
from accel.winograd import transform_weights

Run = Callable[[], Any]


def bind_ours(layer: Layer, threads: int, gemm: int | None) -> tuple[Run, Callable[[], None]]:
    """What to time, and a check of its result."""
    run, values = make_layer(layer, kernels.Pool(threads), gemm)

    def check() -> None:
        """Another instruction set gives the same bytes; tests compare them all with scalar."""
        run()
        others = [name for name in kernels.isas() if name not in ("scalar", kernels.isa())]
        with kernels.use_isa(others[-1] if others else "scalar"):
            reference, expected = make_layer(layer, kernels.Pool(threads), None)
        reference()
        assert all(np.array_equal(a, b) for a, b in zip(values, expected, strict=True))

    return run, check


def make_layer(layer: Layer, pool: kernels.Pool, gemm: int | None) -> tuple[Run, tuple[Array, ...]]:
    """The bound operator, and the arrays that it fills."""
    rng = np.random.default_rng(0)
    src, fill = make_source(layer, pool)
    fill()
    qw, shape = layer.weights(), (layer.oc,)
    if layer.weight_window:
        shape = (*qw.shape[:3], -(-qw.shape[3] // layer.weight_window))
    scale = rng.random(shape, np.float32)
    if layer.transformed:
        qw, scale = transform_weights(qw, scale)
    packed = kernels.pack_weights(
        qw,
        scale,
        layer.window,
        weight_window=layer.weight_window,
        signed=src.signed,
        groups=layer.groups,
        winograd=layer.transformed,
    )
    options: dict[str, Any] = {"pool": pool, "gemm": gemm}
    if layer.product:
        y = from_a_line((1, 1, layer.size, layer.oc))
        return kernels.Conv(src, packed, dst=y, **options), (y,)
    dst = kernels.QTensor((1, layer.out, layer.out, layer.oc), min(layer.oc, 128), False)
    options.update(strides=(layer.stride,) * 2, pads=(layer.pad,) * 4, activation="relu")
    bias = np.ones(layer.oc, np.float32)
    conv = kernels.Conv(src, packed, bias=bias, dst_q=dst, **options)

    def run() -> None:
        fill()
        conv()

    return run if layer.ic <= 4 else conv, (dst.q, dst.scale)


def from_a_line(shape: tuple[int, ...]) -> Array:
    """float32 that begins with a cache line, as the values of a program and of other engines do."""
    count = math.prod(shape)
    raw = np.empty(count + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    return raw[start : start + count].reshape(shape)


def make_source(layer: Layer, pool: kernels.Pool) -> tuple[kernels.QTensor, Run]:
    """The quantized input, and what fills it: of a first layer, part of what is measured."""
    signed, halo = layer.product, (layer.pad,) * 4
    if layer.window is None:
        border = (128,) * layer.ic if layer.ic <= 4 else None  # pixels are raw
        src = kernels.QTensor(layer.shape(), None, signed, halo, border=border)
        return src, kernels.Pixels(layer.activations(), src, pool)
    src = kernels.QTensor(layer.shape(), layer.window, signed, halo)
    x = np.random.default_rng(0).standard_normal(layer.shape(), np.float32)
    return src, kernels.Quantize(x if signed else np.abs(x), src, pool)
