"""Published networks with seeded weights: the right work, no accuracy.

Convolutions carry a bias, as they do once their BatchNorm is folded.

Sources: He et al. 2016 (ResNet-50, stride in the 3x3 layer); Howard et al. 2017 (MobileNetV1).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import accel

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def resnet50() -> accel.Model:
    """ResNet-50, float32 (N, 3, 224, 224) to (N, 1000): 25.5 M weights, 4.1 G multiplications."""
    net = _Net()
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
    net = _Net()
    channels = int(32 * width)
    x = net.conv("image", 3, channels, 3, 2)
    layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
              (1024, 2), (1024, 1)]  # fmt: skip
    for base, stride in layers:
        x = net.conv(x, channels, channels, 3, stride, groups=channels)
        x, channels = net.conv(x, channels, int(base * width)), int(base * width)
    return net.model(x, channels, "mobilenet_v1")


class _Net:
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
        relu: bool = True,
    ) -> str:  # fmt: skip
        """A convolution that keeps the size but for its stride, with ReLU."""
        shape = (oc, ic // groups, kernel, kernel)
        gain = 1.4 if relu else 0.5  # the sums of a residual network then stay bounded
        weights = self._normal(shape, gain / np.sqrt(np.prod(shape[1:])))
        y = self.op("Conv", x, weights, self._normal((oc,), 0.1), kernel_shape=[kernel] * 2,
                    strides=[stride] * 2, pads=[kernel // 2] * 4, group=groups)  # fmt: skip
        return self.op("Relu", y) if relu else y

    def model(self, x: str, channels: int, name: str) -> accel.Model:
        """Close with the average over the image and 1,000 classes."""
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        weights = self._normal((channels, 1000), 1 / np.sqrt(channels))
        logits = self.op("Gemm", flat, weights, self._normal((1000,), 0.1))
        inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 224, 224])]
        outputs = [helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["N", 1000])]
        graph = helper.make_graph(self._nodes, name, inputs, outputs, self._weights)
        opset = [helper.make_opsetid("", 17)]
        return accel.load(
            helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
        )

    def _normal(self, shape: tuple[int, ...], scale: float) -> str:
        name = f"weights_{len(self._weights)}"
        values = self._rng.normal(0, scale, shape).astype(np.float32)
        self._weights.append(numpy_helper.from_array(values, name))
        return name
