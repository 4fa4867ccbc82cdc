"""Bias correction: on images like the noise that it sees, the mean of the outputs comes back."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Net
from onnx import numpy_helper

import accel
from accel.passes import correct_bias
from accel.passes.pink_images import pink_images


def network(channels: int = 24) -> accel.Model:
    """Three convolutions without activations between: inputs of either sign."""
    net = Net()
    y = net.conv("x", channels, 3)
    y = net.conv(y, channels, channels, 1)
    y = net.conv(y, channels, channels, 1)
    size = [1, channels, 30, 30]
    return accel.load(net.model({"x": [1, 3, 32, 32]}, {y: size}))


def shift(model: accel.Model, quantized: accel.Model) -> float:
    """Root mean square over the channels of what rounded weights add to their means."""
    images = pink_images(4, 32, 32, 3).transpose(0, 3, 1, 2) / np.float32(255)
    float_program, program = (accel.device("onnxruntime").compile(m) for m in (model, quantized))
    errors = [
        np.asarray(program.run(x[None])) - np.asarray(float_program.run(x[None])) for x in images
    ]
    return float(np.sqrt((np.mean(errors, axis=(0, 1, 3, 4)) ** 2).mean()))


@pytest.mark.parametrize(("trust", "share"), [(1.0, 0.2), (0.5, 0.7)])
def test_means_of_outputs_come_back(
    trust: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    monkeypatch.setattr(correct_bias, "TRUST", 0.0)
    plain = shift(model, model.quantize())
    monkeypatch.setattr(correct_bias, "TRUST", trust)
    assert shift(model, model.quantize()) < share * plain


def test_networks_without_an_image_are_left_alone(rng: np.random.Generator) -> None:
    net = Net()
    model = accel.load(net.model({"x": [1, 40, 8, 8]}, {net.conv("x", 8, 40): [1, 8, 6, 6]}))
    bias = numpy_helper.to_array(net.weights[1])
    graph = model.quantize().graph().graph
    kept = [v.const_value.numpy() for v in graph.initializers.values() if v.const_value]
    assert any(a.shape == (8,) and np.allclose(a, bias, rtol=2.0**-12, atol=0) for a in kept)
