"""Transformers of MiniLM's size: int8 products, any number and length of sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from language import minilm, sentences

import accel

WORDS = 30522
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def model() -> accel.Model:
    return accel.load(minilm(words=WORDS))


@pytest.fixture(scope="module")
def quantized(model: accel.Model) -> accel.Model:
    return model.quantize()


def run(device: str, model: accel.Model, x: dict[str, Array]) -> Array:
    found = accel.Programs(accel.device(device), model).run(x)
    assert isinstance(found, np.ndarray)
    return found


@pytest.mark.parametrize("length", [7, 32, 128])
def test_sentences_of_any_length_stay_near_fp32(
    length: int, model: accel.Model, quantized: accel.Model, rng: np.random.Generator
) -> None:
    x = sentences(rng, 3, length, WORDS)
    expected, found = run("onnxruntime", model, x), run("cpu", quantized, x)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert (found * expected).sum(axis=1).min() >= 0.99


def test_every_product_with_weights_runs_on_our_code(quantized: accel.Model) -> None:
    """What is left are the products of activations within attention: 2 S of 2 S + 12 hidden."""
    length, hidden = 128, 384
    shapes = dict.fromkeys(("input_ids", "attention_mask"), (2, length))
    explained = accel.device("cpu").compile(quantized, shapes=shapes).explain()
    own = [row for row in explained.rows if row.own]
    foreign = [row for row in explained.rows if row.macs and not row.own]
    assert len(own) == 6 * 6 and len(foreign) == 6 * 2
    assert {row.where for row in foreign} == {"onnxruntime"}
    assert explained.share == pytest.approx(12 * hidden / (12 * hidden + 2 * length))


@pytest.mark.parametrize("device", ["mkl", "fpga"])
def test_other_devices_give_the_same_bits(
    device: str, quantized: accel.Model, rng: np.random.Generator
) -> None:
    x = sentences(rng, 2, 9, WORDS)
    np.testing.assert_array_equal(run(device, quantized, x), run("cpu", quantized, x))


def test_openvino_runs_the_stored_model(
    model: accel.Model, quantized: accel.Model, rng: np.random.Generator
) -> None:
    x = sentences(rng, 2, 16, WORDS)
    expected = run("onnxruntime", model, x)
    assert (run("openvino", quantized, x) * expected).sum(axis=1).min() >= 0.99


def test_stored_model_is_a_quarter_of_the_size(model: accel.Model, quantized: accel.Model) -> None:
    assert len(quantized.to_bytes()) <= 0.261 * len(model.to_bytes())
