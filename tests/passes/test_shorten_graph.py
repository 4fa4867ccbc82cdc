"""Short names and few attributes: the same function, none of the names that a caller knows lost."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import Net
from onnx import TensorProto, helper

import accel
from accel.passes.shorten_graph import shorten_graph


def shortened(data: bytes) -> onnx.ModelProto:
    graph_model = shorten_graph(accel.load(data).graph())
    return onnx.load_from_string(accel.Model.from_graph(graph_model, "short").to_bytes())


@pytest.mark.parametrize(("stride", "kept"), [(1, set()), (2, {"strides"})])
def test_attributes_that_say_nothing_are_dropped(stride: int, kept: set[str]) -> None:
    net = Net()
    plain = {"group": 1, "dilations": [1, 1], "pads": [0] * 4, "auto_pad": "NOTSET"}
    w = net.constant("a_long_name", np.ones((6, 4, 1, 1), np.float32))
    y = net.op("Conv", "x", w, strides=[stride] * 2, kernel_shape=[1, 1], **plain)
    conv = shortened(net.model({"x": [1, 4, 8, 8]}, {y: [1, 6, 8 // stride, 8 // stride]})).graph
    assert {a.name for a in conv.node[0].attribute} == kept
    assert [t.name for t in conv.initializer] == ["w0"]
    assert [v.name for v in (*conv.input, *conv.output)] == ["x", y]


def test_names_in_use_are_left_out_in_subgraphs_too(rng: np.random.Generator) -> None:
    """The branch has a w0 of its own and reads the weight outside."""
    branch = helper.make_graph(
        [helper.make_node("Mul", ["x", "weight"], ["w0"])],
        "then", [], [helper.make_tensor_value_info("w0", TensorProto.FLOAT, [3])],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    inputs = [helper.make_tensor_value_info("c", TensorProto.BOOL, []),
              helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])]  # fmt: skip
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    graph = helper.make_graph([node], "g", inputs, [output], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    proto = shortened(made.SerializeToString())
    assert [t.name for t in proto.graph.initializer] == ["w1"]
    x = rng.standard_normal(3).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (found,) = session.run(None, {"c": np.array(True), "x": x})
    np.testing.assert_array_equal(found, x * np.float32([1, 2, 3]))


def test_biases_keep_twelve_bits_where_products_add_them(rng: np.random.Generator) -> None:
    """Shared ones stay shared; what another operator reads stays as it is."""
    net = Net()
    bias = np.concatenate([rng.standard_normal(6) * 10.0 ** np.arange(-3, 3), [3.4e38, np.inf]])
    bias = bias.astype(np.float32)
    b = net.constant("bias", bias)
    w = net.constant("weight", np.ones((8, 4, 1, 1), np.float32))
    y, z = net.op("Conv", "x", w, b), net.op("Conv", "x", w, b, strides=[2, 2])
    s = net.op("Add", b, b)
    shape = [1, 8, 4, 4]
    proto = shortened(net.model({"x": [1, 4, 4, 4]}, {y: shape, z: [1, 8, 2, 2], s: [8]}))
    arrays = [onnx.numpy_helper.to_array(t) for t in proto.graph.initializer]
    short, exact = sorted((a for a in arrays if a.ndim == 1), key=lambda a: (a == bias).sum())
    np.testing.assert_array_equal(exact, bias)
    np.testing.assert_allclose(short, bias, rtol=2.0**-12)
    assert not (short[:6].view(np.uint32) & 0xFFF).any()
