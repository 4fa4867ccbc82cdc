"""How weights are stored: in int8, and in int16 where they are few."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net

import accel
from accel.passes.choose_fine import FEW_WEIGHTS, MOST_TAPS


def depthwise(channels: int, rng: np.random.Generator) -> accel.Model:
    """A depthwise layer whose filters are one large weight and eight small ones."""
    net = Net()
    weight = rng.uniform(0.001, 0.003, (channels, 1, 3, 3)).astype(np.float32)
    weight[:, :, 1, 1] = 1
    y = net.op("Conv", "x", net.constant("w", weight), group=channels, pads=[1] * 4)
    return accel.load(net.model({"x": [1, channels, 9, 9]}, {y: [1, channels, 9, 9]}))


def stored(model: accel.Model) -> list[str]:
    """Types of the integer weights of a model."""
    values = model.graph().graph.initializers.values()
    kinds = [v.const_value.numpy().dtype for v in values if v.const_value is not None]
    return [kind.name for kind in kinds if kind.name in ("int8", "int16")]


def single(weight: tuple[int, ...], shortcut: bool = True, **attributes: Any) -> accel.Model:
    """One convolution, behind which a shortcut begins."""
    net = Net()
    channels = weight[1] * attributes.get("group", 1)
    w = net.constant("w", net.rng.standard_normal(weight).astype(np.float32))
    y = net.op("Conv", "x", w, **attributes)
    if shortcut:
        y = net.op("Add", y, net.op("Relu", y))
    return accel.load(net.model({"x": [1, channels, 40, 40]}, {y: [1, weight[0], "h", "w"]}))


@pytest.mark.parametrize(
    ("weight", "attributes", "expected"),
    [
        ((FEW_WEIGHTS // 8, 8, 1, 1), {}, "int16"),
        ((FEW_WEIGHTS // 8, 8, 1, 1), {"shortcut": False}, "int8"),
        ((FEW_WEIGHTS // 8 + 1, 8, 1, 1), {}, "int8"),
        ((16, 3, 3, 3), {}, "int8"),  # may read raw pixels
        ((12, 4, 3, 3), {"group": 3}, "int16"),
        ((8, 1, 3, 3), {"group": 8, "shortcut": False}, "int16"),
        ((200, 1, 3, 3), {"group": 200}, "int8"),
        ((8, 1, 1, MOST_TAPS), {"group": 8}, "int16"),
        ((8, 1, 1, MOST_TAPS + 1), {"group": 8}, "int8"),  # sums would not fit in int32
    ],
)
def test_convolutions_of_few_weights_become_int16(
    weight: tuple[int, ...], attributes: dict[str, int], expected: str
) -> None:
    model = single(weight, **attributes)
    assert stored(model.quantize()) == [expected]
    assert stored(model.quantize(weight_window=4))[0] == expected


@pytest.mark.parametrize(
    ("weight", "groups"), [((12, 8, 3, 3), 1), ((9, 5, 2, 2), 3), ((8, 32, 1, 1), 1)]
)
@pytest.mark.parametrize("device", ["cpu", "mkl", "onnxruntime", "openvino"])
def test_int16_weights_have_no_error_to_speak_of(
    weight: tuple[int, ...], groups: int, device: str, rng: np.random.Generator
) -> None:
    model = single(weight, group=groups)
    x = rng.standard_normal((1, weight[1] * groups, 40, 40)) * 10
    x = np.clip(np.rint(x), -127, 127).astype(np.float32)  # levels: nothing else is rounded
    x[:, :1] = 127
    exact = np.asarray(accel.device("onnxruntime").compile(model).run(x))
    found = np.asarray(accel.device(device).compile(model.quantize()).run(x))
    assert np.abs(found - exact).max() <= 1e-3 * np.abs(exact).max()  # in int8: 5e-3


def test_filters_that_are_int8_already_stay_int8(rng: np.random.Generator) -> None:
    net = Net()
    levels = rng.integers(-127, 128, (16, 1, 3, 3))
    levels[:, :, 1, 1] = 127
    w = net.constant("w", (levels * np.float32(0.03)).astype(np.float32))
    y = net.op("Conv", "x", w, group=16)
    model = accel.load(net.model({"x": [1, 16, 4, 4]}, {y: [1, 16, 2, 2]}))
    assert stored(model.quantize()) == ["int8"]


def test_narrow_depthwise_layers_keep_small_weights_beside_large_ones(
    rng: np.random.Generator,
) -> None:
    """What the small weights add is right to a sixteenth of a level of int8."""
    model = depthwise(8, rng)
    x = np.zeros((1, 8, 9, 9), np.float32)
    x[:, :, 4, 4] = 1
    expected = np.asarray(accel.device("onnxruntime").compile(model).run(x))
    found = np.asarray(accel.device("cpu").compile(model.quantize()).run(x))
    assert np.abs(found - expected).max() <= 0.6 / 127 / 16
