"""First layers with a quantized result: rows of gathered pixels against the general product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracle import SIGNS, zero_point

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Conv, Pixels, Pool, QTensor, QuantizePlanes

Array = np.ndarray[Any, Any]
ACTIVATIONS = ("none", "relu", "clip", "leaky", "hardswish", "silu", "gelu")


@dataclass(frozen=True)
class Layer:
    """Images of 1 to 3 channels, float or raw, and a square kernel."""

    images: int
    size: tuple[int, int]
    channels: int
    oc: int
    kernel: int
    stride: int
    dilation: int
    pad: int
    window: int
    signed: int
    activation: str
    raw: bool
    threads: int

    def sources(self) -> QTensor:
        rng, halo = np.random.default_rng(0), (self.pad,) * 4
        shape = (self.images, *self.size, self.channels)
        if self.raw:
            src = QTensor(shape, None, False, halo, border=(9, 99, 199)[: self.channels])
            Pixels(rng.integers(0, 256, shape, np.uint8), src, Pool(1))()
            return src
        src = QTensor(shape, None, True, halo)
        x = rng.standard_normal((shape[0], shape[3], *self.size), np.float32)
        x *= np.float32(10.0) ** np.arange(self.images, dtype=np.float32).reshape(-1, 1, 1, 1)
        QuantizePlanes(x, src, Pool(1))()
        return src

    def out(self) -> tuple[int, int, int, int]:
        reach = (self.kernel - 1) * self.dilation + 1
        h, w = ((s + 2 * self.pad - reach) // self.stride + 1 for s in self.size)
        return self.images, h, w, self.oc

    def run(self, isa: str, **to: Any) -> None:
        """Into dst, dst_q or both."""
        rng = np.random.default_rng(1)
        src = self.sources()
        shape = (self.oc, self.kernel, self.kernel, self.channels)
        qw = rng.integers(-127, 128, shape).astype(np.int8)
        sb, bias = rng.random(self.oc, np.float32), rng.standard_normal(self.oc, np.float32)
        with kernels.use_isa(isa):
            weights = kernels.pack_weights(qw, sb, None, signed=not self.raw)
        Conv(src, weights, strides=(self.stride,) * 2, dilations=(self.dilation,) * 2,
             pads=(self.pad,) * 4, bias=bias, activation=self.activation, alpha=0.1, lo=-0.5,
             hi=300.0, pool=Pool(self.threads), **to)()  # fmt: skip


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    kernel, dilation = draw(st.integers(1, 7)), draw(st.sampled_from((1, 1, 1, 2)))
    reach = (kernel - 1) * dilation + 1
    return Layer(
        images=draw(st.integers(1, 2)),
        size=(draw(st.integers(reach, reach + 12)), draw(st.integers(reach, reach + 45))),
        channels=draw(st.integers(1, 3)),
        oc=draw(st.integers(1, 70) | st.sampled_from((16, 32, 64))),
        kernel=kernel,
        stride=draw(st.integers(1, 3)),
        dilation=dilation,
        pad=draw(st.integers(0, 3)),
        window=draw(st.sampled_from((16, 32, 64, 128)) | st.integers(1, 80)),
        signed=draw(SIGNS),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        raw=draw(st.booleans()),
        threads=draw(st.integers(1, 2)),
    )


@given(layers())
def test_quantized_result_equals_float_result_quantized(layer: Layer) -> None:
    y = np.empty(layer.out(), np.float32)
    layer.run("scalar", dst=y)
    want_q, want_scale = kernels.quantize_windows(y, layer.window, layer.signed)
    for isa in kernels.isas():
        dst = QTensor(layer.out(), layer.window, layer.signed, (1, 1, 1, 1))
        before = dst.memory.copy()
        layer.run(isa, dst_q=dst)
        assert np.array_equal(dst.scale, want_scale)
        assert np.array_equal(dst.q, want_q)
        dst.q[...] = zero_point(layer.signed)
        dst.scale[...] = 0
        assert np.array_equal(dst.memory, before), "the border changed"


@given(layers())
def test_float_result_is_the_same_on_every_isa(layer: Layer) -> None:
    results = []
    for isa in kernels.isas():
        y = np.empty(layer.out(), np.float32)
        layer.run(isa, dst=y)
        results.append(y)
    assert all(np.array_equal(y, results[0]) for y in results)


def test_result_without_int8_value_is_refused(isa: str) -> None:
    src = QTensor((1, 3, 40, 3), None, False)
    src.q[...] = 255
    with kernels.use_isa(isa):
        qw = np.full((32, 3, 3, 3), 127, np.int8)
        weights = kernels.pack_weights(qw, np.full(32, 3e38, np.float32), None, signed=False)
    dst = QTensor((1, 1, 38, 32), 32, False)
    with pytest.raises(KernelError, match="NaN or infinity"):
        Conv(src, weights, dst_q=dst, pool=Pool(1))()
