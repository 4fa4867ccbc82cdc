"""The graph passes, each on the smallest graph that shows what it does and where it stops."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from networks import Net

import accel
from accel import graph as g
from accel.passes.choose_windows import CANDIDATES, choose_windows
from accel.passes.find_nonnegative import find_nonnegative
from accel.passes.fold_batchnorm import fold_batchnorm
from accel.passes.fold_constants import fold_constants
from accel.passes.unfold_blocks import unfold_blocks


def ops(model: ir.Model) -> list[str]:
    return [n.op_type for n in model.graph]


def test_batchnorm_is_folded_behind_a_convolution_only() -> None:
    net = Net()
    y = net.batchnorm(net.batchnorm(net.conv("x", 6, 4, bias=False), 6), 6)
    y = net.batchnorm(net.op("Relu", y), 6)
    graph_model = accel.load(net.model({"x": [1, 4, 8, 8]}, {y: [1, 6, 6, 6]})).graph()
    assert ops(fold_batchnorm(graph_model)) == ["Conv", "Relu", "BatchNormalization"]


def test_batchnorm_is_not_folded_where_the_convolution_has_another_reader() -> None:
    net = Net()
    a = net.conv("x", 6, 4)
    b = net.batchnorm(a, 6)
    graph_model = accel.load(
        net.model({"x": [1, 4, 8, 8]}, {a: [1, 6, 6, 6], b: [1, 6, 6, 6]})
    ).graph()
    assert "BatchNormalization" in ops(fold_batchnorm(graph_model))


def test_folding_keeps_values_and_output_names(rng: np.random.Generator) -> None:
    net = Net()
    y = net.batchnorm(net.conv("x", 6, 4), 6)
    model = accel.load(net.model({"x": [1, 4, 8, 8]}, {y: [1, 6, 6, 6]}))
    folded = accel.Model.from_graph(fold_batchnorm(model.graph()), "folded")
    assert [o.name for o in folded.outputs] == [y]
    x = rng.standard_normal((1, 4, 8, 8)).astype(np.float32)
    device = accel.device("onnxruntime")
    np.testing.assert_allclose(
        device.compile(folded).run(x), device.compile(model).run(x), rtol=1e-4, atol=1e-5
    )


def test_nonnegative_follows_the_operators() -> None:
    net = Net()
    relu = net.op("Relu", "x")
    pool = net.op("MaxPool", relu, kernel_shape=[2, 2])
    both = net.op("Concat", pool, pool, axis=1)
    mixed = net.op("Sub", both, both)
    zero = net.constant("zero", np.float32(0))
    minus = net.constant("minus", np.float32(-1))
    six = net.constant("six", np.float32(6))
    clip6 = net.op("Clip", "x", zero, six)
    clip = net.op("Clip", "x", minus, six)
    pads = net.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    padded = net.op("Pad", relu, pads)
    padded_below = net.op("Pad", relu, pads, minus)
    outputs = [mixed, clip6, clip, padded, padded_below]
    shapes = {o: ["N", None, None, None] for o in outputs}
    graph_model = accel.load(net.model({"x": ["N", 4, 6, 6]}, shapes)).graph()
    found = find_nonnegative(graph_model)
    assert {relu, pool, both, clip6, padded} <= found
    assert not {mixed, clip, padded_below, "x"} & found


@pytest.mark.parametrize("uneven, expected", [(False, 64), (True, 32)])
def test_uneven_channels_get_shorter_windows(uneven: bool, expected: int) -> None:
    net = Net()
    net.nodes.clear()
    w = net.rng.standard_normal((128, 16, 1, 1)).astype(np.float32)
    if uneven:
        w[:4] *= 100
    y = net.op("Conv", "x", net.constant("w", w))
    y = net.conv(y, 8, 128, k=1)
    graph_model = accel.load(net.model({"x": [1, 16, 4, 4]}, {y: [1, 8, 4, 4]})).graph()
    choose_windows(graph_model, None)
    assert int(list(graph_model.graph)[1].metadata_props["lwaccel.window"]) == expected


@pytest.mark.parametrize(("part", "expected"), [(128, 128), (192, 64), (160, 32)])
def test_windows_end_where_the_parts_of_a_concatenation_end(part: int, expected: int) -> None:
    net = Net()
    whole = net.op("Concat", net.conv("x", part, 4), net.conv("x", 256, 4), axis=1)
    y = net.conv(whole, 8, part + 256)
    graph_model = accel.load(net.model({"x": ["N", 4, 8, 8]}, {y: ["N", 8, 4, 4]})).graph()
    choose_windows(graph_model, None)
    assert list(graph_model.graph)[3].metadata_props["lwaccel.window"] == str(expected)
    assert expected in CANDIDATES


@pytest.mark.parametrize("channels, kept", [(64, True), (72, False)])
def test_only_short_last_blocks_are_unfolded(channels: int, kept: bool) -> None:
    net = Net()
    y = net.conv("x", 8, channels)
    model = accel.load(net.model({"x": [1, channels, 6, 6]}, {y: [1, 8, 4, 4]}))
    graph_model = unfold_blocks(model.quantize(weight_window=32).graph())
    assert ("DequantizeLinear" in ops(graph_model)) == kept
    weight = list(graph_model.graph)[-1].inputs[1]
    assert kept or g.constant(weight) is not None


def test_weights_made_by_nodes_become_constants(rng: np.random.Generator) -> None:
    net = Net()
    shape = net.constant("shape", np.array([6, 4, 3, 3], np.int64))
    made = net.op("ConstantOfShape", shape, value=tensor(np.array([0.25], np.float32)))
    w = net.constant("w", rng.standard_normal((3, 3, 6, 5)).astype(np.float32))
    turned = net.op("Transpose", w, perm=[3, 2, 0, 1])
    y = net.op("Conv", net.op("Conv", "x", made), turned)
    model = accel.load(net.model({"x": ["N", 4, 9, 9]}, {y: ["N", 5, 5, 5]}))
    assert ops(fold_constants(model.graph())) == ["Conv", "Conv"]
    assert accel.device("cpu").compile(model.quantize()).explain().share == 1.0


def test_constants_beyond_the_memory_bound_are_left_alone() -> None:
    net = Net()
    shape = net.constant("shape", np.array([1 << 20, 1 << 20], np.int64))
    y = net.op("Add", net.op("ConstantOfShape", shape), net.op("Relu", "x"))
    model = accel.load(net.model({"x": ["N", 1]}, {y: ["N", 1]}))
    assert "ConstantOfShape" in ops(fold_constants(model.graph()))


def test_random_nodes_are_not_folded() -> None:
    net = Net()
    y = net.op("Add", "x", net.op("RandomNormal", shape=[1, 4]))
    model = accel.load(net.model({"x": ["N", 4]}, {y: ["N", 4]}))
    assert "RandomNormal" in ops(fold_constants(model.graph()))


def tensor(array: np.ndarray[Any, Any]) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(array)
