"""One Spark session, a small CNN and image files for the tests of the Spark adapters.

With SPARK_TESTS=connect in the environment the session is that of a Spark Connect client.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pyspark.sql import SparkSession

import accel
from spark_bridge import local_session
from spark_bridge.session import QUICK_START, java_home

SIDE, CLASSES = 16, 10
Images = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Two cores, two Python workers, no web page."""
    connect = os.environ.get("SPARK_TESTS") == "connect"
    session = remote_session() if connect else local_session("local[2]", app="tests")
    yield session
    session.stop()


def remote_session() -> SparkSession:
    """A client of a Spark Connect server of its own, with two cores."""
    os.environ |= {
        "JAVA_HOME": str(java_home()),
        "SPARK_TESTING": "1",  # any free port
        "JDK_JAVA_OPTIONS": QUICK_START,
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    return SparkSession.builder.remote("local[2]").getOrCreate()


@pytest.fixture
def fp32(rng: np.random.Generator) -> accel.Model:
    """Float CNN: two convolutions, global average, a linear layer; (N, 3, 16, 16) to (N, 10)."""
    weights = {
        "w1": rng.normal(0, 0.3, (16, 3, 3, 3)),
        "w2": rng.normal(0, 0.1, (32, 16, 3, 3)),
        "w3": rng.normal(0, 0.3, (32, CLASSES)),
        "b3": rng.normal(0, 0.1, CLASSES),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], "linear"),
    ]
    graph = helper.make_graph(
        nodes,
        "small_cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return accel.load(model.SerializeToString())


@pytest.fixture
def cnn(fp32: accel.Model) -> accel.Model:
    """The same in int8, for images: (N, 16, 16, 3) uint8 to (N, 10)."""
    return fp32.with_preprocessing((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)).quantize()


@pytest.fixture
def free_size(cnn: accel.Model) -> accel.Model:
    """`cnn`, its very weights, for images of any height and width."""
    proto = onnx.load_from_string(cnn.to_bytes())
    del proto.graph.value_info[:]
    for dim, name in zip(proto.graph.input[0].type.tensor_type.shape.dim[1:3], "HW", strict=True):
        dim.dim_param = name
    return accel.load(proto.SerializeToString())


@pytest.fixture
def pixels(rng: np.random.Generator) -> Images:
    """(40, 16, 16, 3) uint8: blocks of colour, no two alike."""
    blocks = rng.integers(0, 256, (40, 4, 4, 3), np.uint8)
    return blocks.repeat(4, axis=1).repeat(4, axis=2)


@pytest.fixture
def encode() -> Callable[[Images], bytes]:
    """Makes a lossless file of (H, W, C) pixels."""

    def png(image: Images) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(image.squeeze()).save(stream, "PNG")
        return stream.getvalue()

    return png


@pytest.fixture
def files(pixels: Images, encode: Callable[[Images], bytes]) -> list[bytes]:
    """The pixels as PNG files."""
    return [encode(image) for image in pixels]
