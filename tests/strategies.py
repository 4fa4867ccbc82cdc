"""Hypothesis strategies that tests share: random networks, and inputs that fit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from networks import Net

Array = np.ndarray[Any, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]

MAX_LAYERS = 6
MIN_SIDE = 4  # smaller images are not reduced further


@dataclass
class Tensor:
    """A value of the network under construction: its name, channels, height and width."""

    name: str
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Case:
    """A serialized network and rows for it, float32 NCHW."""

    data: bytes
    x: Array
    operators: tuple[str, ...]

    def __repr__(self) -> str:  # what Hypothesis prints when it finds a counterexample
        return f"Case({' '.join(self.operators)}; x {self.x.shape})"


@st.composite
def cases(draw: Draw) -> Case:
    """A random image network of up to `MAX_LAYERS` layers with two to five rows of input."""
    seed = draw(st.integers(0, 2**32 - 1))
    net = Net(seed)
    channels, height, width = draw(st.integers(1, 40)), *draw(st.tuples(*[st.integers(4, 13)] * 2))
    x = Tensor("x", channels, height, width)
    shape = (channels, height, width)
    for _ in range(draw(st.integers(1, MAX_LAYERS))):
        x = draw(st.sampled_from(LAYERS))(draw, net, x)
    if draw(st.booleans()):
        x = _head(draw, net, x)
        out = [x.channels]
    else:
        out = [x.channels, x.height, x.width]
    if x.name == "x":
        x.name = net.op("Relu", "x")
    data = net.model({"x": ["N", *shape]}, {x.name: ["N", *out]})
    rows = draw(st.integers(2, 5))
    values = np.random.default_rng(seed).standard_normal((rows, *shape)).astype(np.float32)
    return Case(data, values, tuple(node.op_type for node in net.nodes))


def _conv(draw: Draw, net: Net, x: Tensor) -> Tensor:
    k = draw(st.sampled_from([1, 1, 3, 3, 5]))
    stride = draw(st.sampled_from([1, 1, 2])) if min(x.height, x.width) > MIN_SIDE else 1
    dilation = draw(st.sampled_from([1, 1, 2])) if k == 3 else 1
    pad = dilation * (k // 2)
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 4, x.channels) if x.channels % g == 0]))
    oc = draw(st.integers(1, 3)) * groups if groups > 1 else draw(st.integers(1, 70))
    name = net.conv(
        x.name, oc, x.channels, k, bias=draw(st.booleans()), group=groups,
        strides=[stride] * 2, dilations=[dilation] * 2, pads=[pad] * 4,
    )  # fmt: skip
    y = Tensor(name, oc, (x.height - 1) // stride + 1, (x.width - 1) // stride + 1)
    if draw(st.booleans()):
        y.name = net.batchnorm(y.name, oc)
    return _activation(draw, net, y)


def _activation(draw: Draw, net: Net, x: Tensor) -> Tensor:
    kind = draw(st.sampled_from(["none", "Relu", "LeakyRelu", "HardSwish", "Clip", "Sigmoid"]))
    if kind == "Clip":
        n = len(net.nodes)
        bounds = {f"lo{n}": 0.0, f"hi{n}": 6.0}
        names = [net.constant(k, np.float32(v).reshape(())) for k, v in bounds.items()]
        return Tensor(net.op("Clip", x.name, *names), x.channels, x.height, x.width)
    if kind == "none":
        return x
    return Tensor(net.op(kind, x.name), x.channels, x.height, x.width)


def _residual(draw: Draw, net: Net, x: Tensor) -> Tensor:
    """A 3x3 convolution beside the identity, summed."""
    name = net.conv(x.name, x.channels, x.channels, 3, pads=[1] * 4)
    return _activation(draw, net, Tensor(net.op("Add", name, x.name), *_size(x)))


def _branches(draw: Draw, net: Net, x: Tensor) -> Tensor:
    """Two 1x1 convolutions beside each other, joined along the channels."""
    sizes = [draw(st.integers(1, 40)), draw(st.integers(1, 40))]
    parts = [net.op("Relu", net.conv(x.name, oc, x.channels, 1)) for oc in sizes]
    return Tensor(net.op("Concat", *parts, axis=1), sum(sizes), x.height, x.width)


def _pool(draw: Draw, net: Net, x: Tensor) -> Tensor:
    if min(x.height, x.width) <= MIN_SIDE:
        return x
    kind = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    name = net.op(kind, x.name, kernel_shape=[2, 2], strides=[2, 2])
    return Tensor(name, x.channels, x.height // 2, x.width // 2)


def _head(draw: Draw, net: Net, x: Tensor) -> Tensor:
    """Average over the image, then a dense layer."""
    flat = net.op("Flatten", net.op("GlobalAveragePool", x.name))
    n = draw(st.integers(2, 40))
    w = net.rng.standard_normal((n, x.channels)) / np.sqrt(x.channels)
    weight = net.constant(f"dense{len(net.nodes)}", w.astype(np.float32))
    return Tensor(net.op("Gemm", flat, weight, transB=1), n, 1, 1)


def _size(x: Tensor) -> tuple[int, int, int]:
    return x.channels, x.height, x.width


LAYERS = (_conv, _conv, _residual, _branches, _pool)
