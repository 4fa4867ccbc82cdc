"""Pages of paper with one handwritten digit somewhere on each, and a detector that finds ink.

The detector needs no training: it is one convolution with a cone, which answers most where ink
lies around its middle. Together with `accel.demo` it shows detection, crop and classification
without a download.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from accel.demo import SIDE, digits_test
from accel.detection.spec import DetectorSpec, Normalization
from accel.detection.ssd import SsdHead
from accel.model import Model, load

PAGE = 128  # pixels
STRIDE = 4
INK = 0.2  # weighted share of ink in a box from which it counts as one
STEEPNESS = 12.0


def pages(count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The first digits of the test half, each on a page of its own.

    Returns
    -------
    images : (count, 128, 128, 3) uint8, 0 is paper
    labels : (count,) int64, 0..9
    corners : (count, 2) int64, x and y of the upper left corner of each digit's 32x32 pixels
    """
    digits, labels = digits_test()
    digits, labels = digits[:count], labels[:count]
    corners = np.random.default_rng(0).integers(0, PAGE - SIDE + 1, (len(digits), 2))
    images = np.zeros((len(digits), PAGE, PAGE, 3), np.uint8)
    for image, digit, (x, y) in zip(images, digits, corners, strict=True):
        image[y : y + SIDE, x : x + SIDE] = digit
    return images, labels, corners


def ink_detector() -> Model:
    """A detector of the one class "ink": boxes of 32x32 pixels on a page of 128x128, in fp32."""
    places = (PAGE - SIDE) // STRIDE + 1
    corners = np.stack(np.meshgrid(*[np.arange(places) * STRIDE] * 2), -1).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + SIDE], 1)[np.newaxis] / PAGE
    weights = {
        "cone": np.tile(_cone() * STEEPNESS / 3, (1, 3, 1, 1)),
        "least": np.array([-INK * STEEPNESS]),
        "boxes": boxes,
        "zero": np.array([0.0]),
    }
    tensors = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([0, -1, 1]), "rows"))
    nodes = [
        helper.make_node("Conv", ["page", "cone", "least"], ["ink"], "ink", strides=[STRIDE] * 2),
        helper.make_node("Sigmoid", ["ink"], ["share"], "share"),
        helper.make_node("Reshape", ["share", "rows"], ["scores"], "scores"),
        helper.make_node("Mul", ["scores", "zero"], ["nothing"], "nothing"),
        helper.make_node("Add", ["nothing", "boxes"], ["places"], "places"),
    ]  # the boxes are constants, repeated here for each page of the batch
    count = places * places
    page = helper.make_tensor_value_info("page", TensorProto.FLOAT, ["N", 3, PAGE, PAGE])
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", count, 1]),
        helper.make_tensor_value_info("places", TensorProto.FLOAT, ["N", count, 4]),
    ]
    graph = helper.make_graph(nodes, "ink", [page], outputs, tensors)
    opset = [helper.make_opsetid("", 17)]
    proto = helper.make_model(graph, opset_imports=opset, ir_version=8)
    head = SsdHead(scores=0, boxes=1, coding="corners", background=None)
    spec = DetectorSpec(head, ("ink",), Normalization(), score=0.5, overlap=0.0, limit=10)
    return load(proto.SerializeToString()).as_detector(spec)


def _cone() -> npt.NDArray[np.float64]:
    """(32, 32) weights that fall from the middle to 0 at the edge; their sum is 1."""
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    cone = np.clip(1 - np.hypot(*np.meshgrid(axis, axis)) / (SIDE / 2), 0, None)
    weights: npt.NDArray[np.float64] = cone / cone.sum()
    return weights
