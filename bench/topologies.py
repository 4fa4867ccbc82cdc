"""Published networks with seeded weights: the right work, no accuracy.

Convolutions carry a bias, as they do once their BatchNorm is folded.

Sources: He et al. 2016 (ResNet-50, stride in the 3x3 layer); Howard et al. 2017 (MobileNetV1);
Sandler et al. 2018 (MobileNetV2); Iandola et al. 2016 (SqueezeNet 1.1); Simonyan and Zisserman 2014
(VGG); Liu et al. 2016 (SSD300, without the scaling of conv4_3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import accel

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def resnet50() -> accel.Model:
    """ResNet-50, float32 (N, 3, 224, 224) to (N, 1000): 25.5 M weights, 4.1 G multiplications."""
    net = Net()
    x = net.op("MaxPool", net.conv("image", 3, 64, 7, 2), kernel_shape=[3, 3], strides=[2, 2],
               pads=[1] * 4)  # fmt: skip
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for unit in range((3, 4, 6, 3)[stage]):
            stride = 2 if stage and not unit else 1
            y = net.conv(net.conv(x, channels, width), width, width, 3, stride)
            y = net.conv(y, width, 4 * width, relu=False)
            if not unit:
                x = net.conv(x, channels, 4 * width, stride=stride, relu=False)
            x, channels = net.op("Relu", net.op("Add", y, x)), 4 * width
    return net.model(x, channels, "resnet50")


def mobilenet_v1(width: float = 0.25) -> accel.Model:
    """MobileNetV1 of this width, float32 (N, 3, 224, 224) to (N, 1000); 0.25: 41 M products."""
    net = Net()
    channels = int(32 * width)
    x = net.conv("image", 3, channels, 3, 2)
    layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
              (1024, 2), (1024, 1)]  # fmt: skip
    for base, stride in layers:
        x = net.conv(x, channels, channels, 3, stride, groups=channels)
        x, channels = net.conv(x, channels, int(base * width)), int(base * width)
    return net.model(x, channels, "mobilenet_v1")


def mobilenet_v2() -> accel.Model:
    """MobileNetV2, float32 (N, 3, 224, 224) to (N, 1000): 300 M multiplications."""
    net = Net()
    x, channels = net.conv("image", 3, 32, 3, 2), 32
    steps = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
             (6, 160, 3, 2), (6, 320, 1, 1)]  # fmt: skip
    for factor, width, count, first in steps:
        for unit in range(count):
            stride, inner = first if not unit else 1, factor * channels
            y = x if factor == 1 else net.conv(x, channels, inner, relu=6)
            y = net.conv(y, inner, inner, 3, stride, groups=inner, relu=6)
            y = net.conv(y, inner, width, relu=False)
            x = net.op("Add", y, x) if stride == 1 and width == channels else y
            channels = width
    return net.model(net.conv(x, channels, 1280, relu=6), 1280, "mobilenet_v2")


def squeezenet() -> accel.Model:
    """SqueezeNet 1.1, float32 (N, 3, 227, 227) to (N, 1000): 352 M multiplications."""
    net = Net()
    x, channels = net.pool(net.conv("image", 3, 64, 3, 2, pad=0)), 64
    for index, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        x = net.pool(x) if index in (2, 4) else x
        s = net.conv(x, channels, squeeze)
        wide, channels = 4 * squeeze, 8 * squeeze
        x = net.op("Concat", net.conv(s, squeeze, wide), net.conv(s, squeeze, wide, 3), axis=1)
    y = net.op("GlobalAveragePool", net.conv(x, channels, 1000))
    return net.close({net.op("Flatten", y): ["N", 1000]}, 227, "squeezenet1.1")


def vgg(depths: Sequence[int], name: str) -> accel.Model:
    """VGG, float32 (N, 3, 224, 224) to (N, 1000); VGG16: 138 M weights, 15.5 G multiplications."""
    net = Net()
    x, channels = net.trunk(depths)
    x = net.op("Flatten", net.pool(x, 2))
    for width, k in ((4096, 49 * channels), (4096, 4096)):
        x = net.op("Relu", net.dense(x, k, width))
    return net.close({net.dense(x, 4096, 1000): ["N", 1000]}, 224, name)


def ssd300() -> accel.Model:
    """SSD300 on VGG16, float32 (N, 3, 300, 300) to boxes (N, 8732, 4) and (N, 8732, 21)."""
    net = Net()
    x, _ = net.trunk((2, 2, 3), ceil=True)
    fourth = net.convs(net.pool(x, 2, ceil=True), (256, 512, 512, 512))
    x = net.convs(net.pool(fourth, 2), (512, 512, 512, 512))
    x = net.conv(net.pool(x, 3, 1, pad=1), 512, 1024, 3, pad=6, dilation=6)
    maps, channels = [(fourth, 512, 4), (net.conv(x, 1024, 1024), 1024, 6)], 1024
    for squeeze, width, stride, boxes in ((256, 512, 2, 6), (128, 256, 2, 6), (128, 256, 1, 4),
                                          (128, 256, 1, 4)):  # fmt: skip
        x = net.conv(maps[-1][0], channels, squeeze)
        x = net.conv(x, squeeze, width, 3, stride, pad=stride - 1)
        maps.append((x, width, boxes))
        channels = width
    found = {}
    for size in (4, 21):
        parts = []
        for x, width, boxes in maps:
            y = net.conv(x, width, boxes * size, 3, relu=False)
            y = net.op("Transpose", y, perm=[0, 2, 3, 1])
            parts.append(net.op("Reshape", y, net.integers([0, -1, size])))
        found[net.op("Concat", *parts, axis=1)] = ["N", 8732, size]
    return net.close(found, 300, "ssd300_vgg16")


TOPOLOGIES: dict[str, Callable[[], accel.Model]] = {
    "resnet50": resnet50,
    "mobilenet_v2": mobilenet_v2,
    "squeezenet1.1": squeezenet,
    "ssd300_vgg16": ssd300,
    "vgg16": lambda: vgg((2, 2, 3, 3, 3), "vgg16"),
    "vgg19": lambda: vgg((2, 2, 4, 4, 4), "vgg19"),
}


class Net:
    """Nodes and weights of one network; every method returns the name of its output."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def op(self, op_type: str, *inputs: str, **attributes: object) -> str:
        name = f"{op_type.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, list(inputs), [name], name, **attributes))
        return name

    def conv(
        self, x: str, ic: int, oc: int, kernel: int = 1, stride: int = 1, groups: int = 1,
        relu: bool | int = True, pad: int | None = None, dilation: int = 1,
    ) -> str:  # fmt: skip
        """A convolution that keeps the size but for its stride; relu=6: with ReLU6."""
        shape = (oc, ic // groups, kernel, kernel)
        gain = 1.4 if relu else 0.5  # the sums of a residual network then stay bounded
        weights = self.normal(shape, gain / np.sqrt(np.prod(shape[1:])))
        pads = [kernel // 2 if pad is None else pad] * 4
        y = self.op("Conv", x, weights, self.normal((oc,), 0.1), kernel_shape=[kernel] * 2,
                    strides=[stride] * 2, pads=pads, group=groups,
                    dilations=[dilation] * 2)  # fmt: skip
        if relu is not True and relu:
            return self.op("Clip", y, self.scalar(0.0), self.scalar(relu))
        return self.op("Relu", y) if relu else y

    def convs(self, x: str, channels: Sequence[int]) -> str:
        """3x3 convolutions one after the other."""
        for ic, oc in pairwise(channels):
            x = self.conv(x, ic, oc, 3)
        return x

    def trunk(self, depths: Sequence[int], ceil: bool = False) -> tuple[str, int]:
        """The first blocks of VGG with pools between them, and their channels."""
        x, ic = "image", 3
        for i, (depth, oc) in enumerate(zip(depths, (64, 128, 256, 512, 512), strict=False)):
            x = self.convs(self.pool(x, 2, ceil=ceil) if i else x, (ic, *[oc] * depth))
            ic = oc
        return x, ic

    def pool(
        self, x: str, kernel: int = 3, stride: int = 2, pad: int = 0, ceil: bool = False
    ) -> str:
        """The maximum of each window."""
        return self.op("MaxPool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2,
                       pads=[pad] * 4, ceil_mode=int(ceil))  # fmt: skip

    def dense(self, x: str, ic: int, oc: int) -> str:
        """A fully connected layer."""
        return self.op("Gemm", x, self.normal((ic, oc), 1 / np.sqrt(ic)), self.normal((oc,), 0.1))

    def integers(self, values: list[int]) -> str:
        """A constant of int64."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def model(self, x: str, channels: int, name: str) -> accel.Model:
        """Close with the average over the image and 1,000 classes."""
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.close({self.dense(flat, channels, 1000): ["N", 1000]}, 224, name)

    def close(self, y: dict[str, list[str | int]], size: int, name: str) -> accel.Model:
        """The model of square images with these outputs."""
        return self.close_over("image", ["N", 3, size, size], y, name)

    def close_over(
        self, x: str, shape: list[str | int], y: dict[str, list[str | int]], name: str
    ) -> accel.Model:
        """The model of one float32 input with these outputs."""
        inputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in y.items()]
        graph = helper.make_graph(self._nodes, name, inputs, outputs, self._weights)
        opset = [helper.make_opsetid("", 17)]
        return accel.load(
            helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
        )

    def normal(self, shape: tuple[int, ...], scale: float) -> str:
        return self.constant(self._rng.standard_normal(shape, np.float32) * np.float32(scale))

    def constant(self, array: np.ndarray[Any, Any]) -> str:
        name = f"weights_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(array, name))
        return name
