"""Folding of image normalisation: the same network on raw pixels, or the graph as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net

import accel
from accel.passes.fold_pixels import fold_pixels


def network(**conv: Any) -> accel.Model:
    net = Net()
    y = net.op("Relu", net.conv("image", 8, 3, **conv))
    return accel.load(net.model({"image": ["N", 3, 9, 9]}, {y: ["N", 8, "h", "w"]}))


def folded(model: accel.Model) -> accel.Model:
    return accel.Model.from_graph(fold_pixels(model.graph()), "folded")


def operators(model: accel.Model) -> list[str]:
    return [n.op_type for n in model.graph().graph]


def run(model: accel.Model, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    y = accel.device("onnxruntime").compile(model).run(x)
    assert isinstance(y, np.ndarray)
    return y


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_unpadded_convolution_gives_the_same_values(order: Any, rng: np.random.Generator) -> None:
    model = network().with_preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), order=order)
    raw = folded(model)
    assert operators(raw) == ["Cast", "Sub", "Transpose", "Conv", "Relu"]
    x = rng.integers(0, 256, (4, 9, 9, 3), dtype=np.uint8)
    np.testing.assert_allclose(run(raw, x), run(model, x), rtol=1e-4, atol=1e-4)


def test_padded_convolution_differs_at_the_border_by_half_a_level_at_most(
    rng: np.random.Generator,
) -> None:
    mean = (100.4, 120.5, 80.0)
    model = network(pads=[1, 1, 1, 1]).with_preprocessing(mean, scale=1.0)
    raw = folded(model)
    assert operators(raw) == ["Cast", "Sub", "Transpose", "Conv", "Relu"]
    x = rng.integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    got, want = run(raw, x), run(model, x)
    np.testing.assert_allclose(got[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-3)
    weight = 27 * 3  # taps times a generous bound on one weight
    assert np.abs(got - want).max() <= 0.5 * weight


@pytest.mark.parametrize(
    "arguments",
    [
        {"mean": (-1.0, -1.0, -1.0), "scale": 1.0},  # zero lies below the darkest pixel
        {"mean": (2.0, 2.0, 2.0), "scale": 255.0},  # and above the brightest
    ],
)
def test_padding_that_no_pixel_stands_for_is_left_alone(arguments: dict[str, Any]) -> None:
    model = network(pads=[1, 1, 1, 1]).with_preprocessing(**arguments)
    assert operators(folded(model)) == operators(model)


def test_input_with_two_readers_is_left_alone() -> None:
    net = Net()
    a, b = net.conv("image", 8, 3), net.conv("image", 4, 3)
    shapes = {a: ["N", 8, 7, 7], b: ["N", 4, 7, 7]}
    model = accel.load(net.model({"image": ["N", 3, 9, 9]}, shapes)).with_preprocessing()
    assert operators(folded(model)) == operators(model)


def test_quantized_network_on_pixels_is_close_to_fp32(rng: np.random.Generator) -> None:
    model = network(pads=[1, 0, 1, 1]).with_preprocessing(0.5, 0.5, order="bgr")
    x = rng.integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    want = run(model, x)
    quantized = model.quantize()
    program = accel.device("cpu").compile(quantized, strict=True)  # nothing left to the host
    got = program.run(x)
    assert isinstance(got, np.ndarray)
    assert np.linalg.norm(got - want) <= 0.02 * np.linalg.norm(want)
    assert program.explain().rows[0].note == "reads raw pixels"
    for name in ("mkl", "fpga"):
        np.testing.assert_array_equal(accel.device(name).compile(quantized).run(x), got)


def test_weight_windows_and_pixels_go_together(rng: np.random.Generator) -> None:
    net = Net()
    y = net.conv(net.op("Relu", net.conv("image", 32, 3)), 8, 32)
    model = accel.load(net.model({"image": ["N", 3, 9, 9]}, {y: ["N", 8, 5, 5]}))
    model = model.with_preprocessing()
    x = rng.integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    got = accel.device("cpu").compile(model.quantize(weight_window=16), strict=True).run(x)
    want = run(model, x)
    assert isinstance(got, np.ndarray)
    assert np.linalg.norm(got - want) <= 0.02 * np.linalg.norm(want)
