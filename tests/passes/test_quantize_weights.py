"""How weights are stored: scales of channels, of blocks, and of each weight where they are few."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Net

import accel
from accel.passes.quantize_weights import FEW_CHANNELS


def depthwise(channels: int, rng: np.random.Generator) -> accel.Model:
    """A depthwise layer whose filters are one large weight and eight small ones."""
    net = Net()
    weight = rng.uniform(0.001, 0.003, (channels, 1, 3, 3)).astype(np.float32)
    weight[:, :, 1, 1] = 1
    y = net.op("Conv", "x", net.constant("w", weight), group=channels, pads=[1] * 4)
    return accel.load(net.model({"x": [1, channels, 9, 9]}, {y: [1, channels, 9, 9]}))


@pytest.mark.parametrize(
    ("channels", "shape"),
    [(8, (8, 1, 3, 3)), (FEW_CHANNELS, (FEW_CHANNELS, 1, 3, 3)), (40, (40,))],
)
def test_narrow_depthwise_layers_have_a_scale_for_each_weight(
    channels: int, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    stored = depthwise(channels, rng).quantize().graph().graph.initializers.values()
    assert shape in {tuple(v.const_value.shape.numpy()) for v in stored if v.const_value}


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
