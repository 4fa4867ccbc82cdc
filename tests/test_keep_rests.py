"""First layers of few channels whose values keep what rounding takes off them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net

import accel
from accel.lower import lower
from accel.lower.keep_rests import MOST
from accel.schedule import ProductCall

Array = np.ndarray[Any, Any]


def network(
    channels: int = MOST, activation: str = "LeakyRelu", output: bool = False, group: int = 1
) -> accel.Model:
    """Two convolutions of an image."""
    net = Net()
    a = net.op(activation, net.conv("x", channels, 3, pads=[1] * 4))
    y = net.conv(a, channels, channels, k=1, group=group)
    outputs = {y: [1, channels, 20, 30]} | ({a: [1, channels, 20, 30]} if output else {})
    return accel.load(net.model({"x": [1, 3, 20, 30]}, outputs))


def products(model: accel.Model, **windows: int) -> list[ProductCall]:
    calls = lower(model.quantize(**windows).with_shapes(1)).calls
    return [call for call in calls if isinstance(call, ProductCall)]


def test_product_behind_a_first_layer_reads_both() -> None:
    first, second = products(network())
    assert first.shape == (MOST, 3, 3, 3) and second.shape == (MOST, 1, 1, 2 * MOST)
    assert second.rests and not first.rests


@pytest.mark.parametrize(
    "model",
    [
        network(MOST + 1), network(activation="Relu"), network(activation="Tanh"),
        network(output=True), network(group=MOST),
    ],
)  # fmt: skip
def test_other_networks_stay_as_they_are(model: accel.Model) -> None:
    assert [call.rests for call in products(model)] == [False, False]


def test_image_in_windows_is_no_first_layer() -> None:
    first, second = products(network(), window=MOST)
    assert first.window == MOST and not second.rests


@pytest.mark.parametrize("device", ["cpu", "mkl"])
@pytest.mark.parametrize("raw", [False, True])
def test_rests_take_most_of_the_rounding_off(
    device: str, raw: bool, rng: np.random.Generator
) -> None:
    """Against the same weights and exact activations; without rests it is five times the bound."""
    model, x = network(), rng.standard_normal((1, 3, 20, 30)).astype(np.float32)
    if raw:
        model, x = model.with_preprocessing(), rng.integers(0, 256, (1, 20, 30, 3), np.uint8)
    else:
        x = np.clip(np.rint(x * 40), -127, 127).astype(np.float32)
        x[0, 0, 0, 0] = 127  # levels: the image is not rounded
    quantized = model.quantize()
    exact = np.asarray(accel.device("onnxruntime").compile(quantized).run(x))
    found = np.asarray(accel.device(device).compile(quantized).run(x))
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert error <= 5e-4
