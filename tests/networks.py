"""Small ONNX networks that tests build, seeded; shapes are chosen to have tails."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


class Net:
    """Collects nodes and weights of one network; every method returns its output's name."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, array: np.ndarray[Any, Any]) -> str:
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def conv(
        self, x: str, oc: int, ic: int, k: int = 3, bias: bool = True, **attributes: Any
    ) -> str:
        n, groups = len(self.nodes), attributes.get("group", 1)
        shape = (oc, ic // groups, k, k)
        w = self.rng.standard_normal(shape).astype(np.float32) / np.sqrt(ic // groups * k * k)
        names = [self.constant(f"w{n}", w.astype(np.float32))]
        if bias:
            b = self.rng.standard_normal(oc).astype(np.float32) * 0.1
            names.append(self.constant(f"b{n}", b.astype(np.float32)))
        return self.op("Conv", x, *names, **attributes)

    def batchnorm(self, x: str, channels: int) -> str:
        n = len(self.nodes)
        gamma, beta, mean = (self.rng.standard_normal(channels).astype(np.float32) for _ in "gbm")
        var = self.rng.random(channels).astype(np.float32) + 0.5
        arrays = {"gamma": gamma, "beta": beta, "mean": mean, "var": var}
        names = [self.constant(f"{key}{n}", a) for key, a in arrays.items()]
        return self.op("BatchNormalization", x, *names)

    def model(
        self,
        inputs: dict[str, list[Any]],
        outputs: dict[str, list[Any]],
        opset: int = 17,
    ) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(n, FLOAT, s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, FLOAT, s) for n, s in outputs.items()],
            self.weights,
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        data: bytes = made.SerializeToString()
        return data


def small_cnn(seed: int = 0, batch: int | str = "N") -> bytes:
    """Ordinary, depthwise, grouped and strided convolutions, a residual, BN, pools, a Gemm."""
    net = Net(seed)
    x = net.op("Relu", net.batchnorm(net.conv("image", 24, 3, bias=False, pads=[1] * 4), 24))
    y = net.op("Relu", net.conv(x, 24, 24, group=24, pads=[1] * 4))
    y = net.op("Add", net.conv(y, 24, 24, k=1), x)
    y = net.op("Relu", y)
    y = net.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = net.op("LeakyRelu", net.conv(y, 40, 24, strides=[2, 2], pads=[1] * 4), alpha=0.1)
    y = net.conv(y, 36, 40, group=4, pads=[2] * 4, dilations=[2, 2])
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    w = net.constant("fc_w", net.rng.standard_normal((10, 36)).astype(np.float32))
    b = net.constant("fc_b", net.rng.standard_normal(10).astype(np.float32))
    net.nodes.append(helper.make_node("Gemm", [y, w, b], ["logits"], name="fc", transB=1))
    return net.model({"image": [batch, 3, 13, 11]}, {"logits": [batch, 10]})
