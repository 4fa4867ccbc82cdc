"""Small detection networks with seeded weights."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

import accel
from accel.detection.spec import DetectorSpec
from accel.detection.yolo import YoloHead

ANCHORS = (((20.0, 30.0), (60.0, 50.0)), ((8.0, 10.0), (12.0, 30.0)))
CLASSES, SIDE = 3, 64
YOLO = DetectorSpec(YoloHead(ANCHORS), names=("cat", "dog"), score=0.3, overlap=0.5)


def yolo_network(rng: np.random.Generator) -> accel.Model:
    """Two grids, of strides 16 and 8, over images 64x64."""
    nodes, constants, outputs = [], {}, []
    for stride in (16, 8):
        channels = 2 * (5 + CLASSES)
        name, grid = f"y{stride}", SIDE // stride
        scale = 3 / (stride * np.sqrt(3.0))
        constants[f"w{stride}"] = scale * rng.standard_normal((channels, 3, stride, stride))
        constants[f"b{stride}"] = rng.standard_normal(channels)
        nodes.append(helper.make_node("Conv", ["x", f"w{stride}", f"b{stride}"], [name],
                                      strides=[stride, stride]))  # fmt: skip
        outputs.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, grid, grid])
        )
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])], outputs,
        [helper.make_tensor(n, TensorProto.FLOAT, a.shape, a.ravel()) for n, a in
         constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return accel.load(model.SerializeToString())
