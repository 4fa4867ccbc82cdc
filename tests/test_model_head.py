"""Heads: taken off and put on, the body unchanged."""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel.demo import digits_model, digits_test
from accel.errors import InputError, ModelError
from accel.head import with_head, without_head

FEATURES = 64


def run(model: accel.Model, images: np.ndarray, device: str = "cpu") -> np.ndarray:
    found = accel.device(device).compile(model, batch_size=8).run(images)
    assert isinstance(found, np.ndarray)
    return found


@pytest.fixture
def images() -> np.ndarray:
    return digits_test()[0][:16]


@pytest.fixture
def body() -> accel.Model:
    return without_head(digits_model().quantize())


def test_without_head_gives_what_the_last_layer_reads(
    images: np.ndarray, body: accel.Model
) -> None:
    assert body.is_quantized and [o.name for o in body.outputs] == ["flat"]
    assert run(body, images).shape == (len(images), FEATURES)
    assert len(body.to_bytes()) < len(digits_model().quantize().to_bytes())


def test_without_head_of_a_named_value(images: np.ndarray) -> None:
    inner = without_head(digits_model().quantize(), "average")
    assert run(inner, images).shape == (len(images), FEATURES, 1, 1)


@pytest.mark.parametrize("device", ["cpu", "mkl", "fpga"])
def test_with_head_is_softmax_of_a_dense_layer_on_the_same_features(
    images: np.ndarray, body: accel.Model, rng: np.random.Generator, device: str
) -> None:
    weights = rng.normal(size=(FEATURES, 3)).astype(np.float32)
    bias = rng.normal(size=3).astype(np.float32)
    logits = run(body, images).astype(np.float64) @ weights + bias
    power = np.exp(logits - logits.max(1, keepdims=True))
    found = run(with_head(body, weights, bias), images, device)
    np.testing.assert_allclose(found, power / power.sum(1, keepdims=True), atol=1e-5)


def test_with_head_then_quantize_has_the_head_in_int8(
    images: np.ndarray, rng: np.random.Generator
) -> None:
    weights = rng.normal(size=(FEATURES, 3)).astype(np.float32)
    headed = with_head(without_head(digits_model()), weights, np.zeros(3, np.float32)).quantize()
    assert "head.gemm" in headed.windows
    exact = accel.device("onnxruntime").compile(headed, batch_size=8).run(images)
    assert np.abs(run(headed, images) - exact).max() < 0.1


def test_head_that_does_not_fit_is_refused(body: accel.Model) -> None:
    with pytest.raises(InputError, match="the head takes 5 features, but output 'flat'"):
        with_head(body, np.zeros((5, 2), np.float32), np.zeros(2, np.float32))
    with pytest.raises(InputError, match=r"expected \(features, classes\)"):
        with_head(body, np.zeros((FEATURES, 2), np.float32), np.zeros(3, np.float32))
    with pytest.raises(ModelError, match="has not an inner value 'nowhere'; its values are"):
        without_head(digits_model(), "nowhere")
