"""Which products read windows of few values below 0, and that their results stay right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net

import accel
from accel import kernels
from accel.lower import lower
from accel.lower.skew_windows import STEEPEST, ZERO_POINT
from accel.schedule import ProductCall

Array = np.ndarray[Any, Any]


def zero_points(net: Net, y: str, channels: int) -> list[int]:
    """Of the products of a network on an image of 8 channels."""
    data = net.model({"x": [1, 8, 10, 10]}, {y: [1, channels, "h", "w"]})
    calls = lower(accel.load(data).quantize().with_shapes(1)).calls
    return [call.zero_point for call in calls if isinstance(call, ProductCall)]


@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("LeakyRelu", {"alpha": 0.1}, ZERO_POINT),
        ("LeakyRelu", {"alpha": 2 * STEEPEST}, 128),
        ("LeakyRelu", {"alpha": -0.1}, 128),
        ("HardSwish", {}, ZERO_POINT),
        ("Relu", {}, 0),
        ("Tanh", {}, 128),
    ],
)
def test_windows_behind_activation_have_its_zero_point(
    op: str, attributes: dict[str, float], expected: int
) -> None:
    net = Net()
    y = net.conv(net.op(op, net.conv("x", 12, 8, k=3), **attributes), 6, 12, k=1)
    assert zero_points(net, y, 6) == [128, expected]


def test_windows_of_a_sum_stay_signed() -> None:
    net = Net()
    a = net.op("LeakyRelu", net.conv("x", 12, 8, k=1), alpha=0.1)
    y = net.conv(net.op("Add", net.conv(a, 12, 12, k=1), a), 6, 12, k=1)
    assert zero_points(net, y, 6) == [128, ZERO_POINT, 128]


@pytest.mark.parametrize(("other", "expected"), [("LeakyRelu", ZERO_POINT), ("Tanh", 128)])
def test_windows_of_a_concatenation_are_skewed_where_all_parts_are(
    other: str, expected: int
) -> None:
    net = Net()
    a = net.op("LeakyRelu", net.conv("x", 32, 8, k=1), alpha=0.1)
    b = net.op(other, net.conv("x", 32, 8, k=1))
    pooled = net.op("MaxPool", net.op("Concat", a, b, axis=1), kernel_shape=[2, 2])
    y = net.conv(pooled, 6, 64, k=1)
    assert zero_points(net, y, 6)[-1] == expected


def test_values_that_a_depthwise_layer_reads_too_stay_signed() -> None:
    net = Net()
    a = net.op("LeakyRelu", net.conv("x", 12, 8, k=1), alpha=0.1)
    weight = net.constant("d", np.ones((12, 1, 3, 3), np.float32))
    deep = net.op("Conv", a, weight, group=12, pads=[1] * 4)
    y = net.op("Add", deep, net.conv(a, 12, 12, k=1))
    assert set(zero_points(net, y, 12)) == {128}


def test_skewed_windows_have_half_the_error_of_signed_ones(rng: np.random.Generator) -> None:
    x = rng.standard_normal((500, 64)).astype(np.float32)
    x = np.where(x > 0, x, x * np.float32(0.1))
    error = {}
    for signed in (True, ZERO_POINT):
        q, scale = kernels.quantize_windows(x, 32, signed)
        error[signed] = np.square(kernels.dequantize_windows(q, scale, 32, signed) - x).mean()
    assert error[ZERO_POINT] <= 0.5 * error[True]


@pytest.mark.parametrize("device", ["cpu", "mkl"])
def test_program_on_skewed_windows_is_near_float32(device: str, rng: np.random.Generator) -> None:
    net = Net()
    a = net.op("LeakyRelu", net.conv("x", 70, 8, k=3), alpha=0.1)
    a = net.op("MaxPool", a, kernel_shape=[3, 3], strides=[2, 2])
    y = net.conv(a, 20, 70, k=3, pads=[1] * 4)
    model = accel.load(net.model({"x": [1, 8, 21, 21]}, {y: [1, 20, 9, 9]}))
    x = rng.standard_normal((1, 8, 21, 21)).astype(np.float32)
    expected = np.asarray(accel.device("onnxruntime").compile(model).run(x))
    found = np.asarray(accel.device(device).compile(model.quantize()).run(x))
    assert np.linalg.norm(found - expected) <= 0.015 * np.linalg.norm(expected)
