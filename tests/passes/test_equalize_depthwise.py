"""Channels in front of a depthwise convolution brought to one size."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import accel
from accel import graph as g
from accel.passes.equalize_depthwise import equalize_depthwise
from accel.passes.pink_images import pink_images

Array = np.ndarray[Any, Any]
UNEVEN = np.array([1, 10, 0.1, 1, 30, 1, 5, 0.3] * 4, np.float32)


def network(rng: np.random.Generator, activation: str = "LeakyRelu", size: Any = 24) -> accel.Model:
    """1x1 convolution to channels of very different sizes, activation, depthwise 3x3."""
    first = rng.standard_normal((32, 3, 1, 1)).astype(np.float32) * UNEVEN.reshape(-1, 1, 1, 1)
    depthwise = rng.standard_normal((32, 1, 3, 3)).astype(np.float32)
    depthwise /= UNEVEN.reshape(-1, 1, 1, 1)
    bias = rng.standard_normal(32).astype(np.float32) * UNEVEN
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["h"]),
        helper.make_node(activation, ["h"], ["a"]),
        helper.make_node("Conv", ["a", "w2"], ["y"], group=32, pads=[1, 1, 1, 1]),
    ]
    constants = {"w1": first, "b1": bias, "w2": depthwise}
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32, size, size])],
        [helper.make_tensor(n, 1, a.shape, a.ravel()) for n, a in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return accel.load(model.SerializeToString())


def weights(graph_model: ir.Model) -> list[Array]:
    found = [g.constant(n.inputs[1]) for n in graph_model.graph if n.op_type == "Conv"]
    assert all(w is not None for w in found)
    return [w for w in found if w is not None]


@pytest.mark.parametrize("activation", ["LeakyRelu", "Relu"])
def test_float_network_keeps_its_bits(rng: np.random.Generator, activation: str) -> None:
    model = network(rng, activation)
    even = accel.Model.from_graph(equalize_depthwise(model.graph()), "even")
    x = rng.random((2, 3, 24, 24), np.float32)
    device = accel.device("onnxruntime")
    assert even.digest != model.digest
    np.testing.assert_array_equal(device.compile(even).run(x), device.compile(model).run(x))


def test_small_channels_keep_their_accuracy(rng: np.random.Generator) -> None:
    model = network(rng)
    x = rng.random((1, 3, 24, 24), np.float32)
    want = accel.device("onnxruntime").compile(model).run(x)
    got = accel.device("cpu").compile(model.quantize()).run(x)
    assert isinstance(want, np.ndarray) and isinstance(got, np.ndarray)
    error = np.sqrt(((got - want) ** 2).mean(axis=(0, 2, 3)) / (want**2).mean(axis=(0, 2, 3)))
    assert error.max() < 0.15  # 1.8 where the channels keep their sizes


def test_activation_that_no_factor_passes_is_left_alone(rng: np.random.Generator) -> None:
    model = network(rng, "Sigmoid")
    for same, other in zip(weights(equalize_depthwise(model.graph())), weights(model.graph()),
                           strict=True):  # fmt: skip
        np.testing.assert_array_equal(same, other)


def test_image_too_large_to_run_is_left_alone(rng: np.random.Generator) -> None:
    model = network(rng, size=4096)
    for same, other in zip(weights(equalize_depthwise(model.graph())), weights(model.graph()),
                           strict=True):  # fmt: skip
        np.testing.assert_array_equal(same, other)


def test_pink_images_repeat_and_are_smooth() -> None:
    images = pink_images(2, 48, 64, 3)
    assert images.shape == (2, 48, 64, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images, pink_images(2, 48, 64, 3))
    step = np.abs(np.diff(images.astype(int), axis=1)).mean()
    assert step < 0.7 * images.std()  # white noise: 1.1
