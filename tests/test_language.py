"""Transformers of MiniLM's size: int8 products, any number and length of sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language import minilm, sentences

import accel
from accel.backends.fpga import FpgaProgram

WORDS = 30522
COSINE = 0.999  # to fp32
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
    assert (found * expected).sum(axis=1).min() >= COSINE


@pytest.mark.parametrize("device", ["cpu", "mkl", "fpga"])
@pytest.mark.parametrize("length", [32, 128, 256])
def test_all_products_run_on_our_code(device: str, length: int, quantized: accel.Model) -> None:
    """Those with weights, six of a layer, and both of attention: 2 S of 2 S + 12 hidden."""
    shapes = dict.fromkeys(("input_ids", "attention_mask"), (2, length))
    explained = accel.device(device).compile(quantized, shapes=shapes).explain()
    products = [row for row in explained.rows if row.macs]
    assert len(products) == 6 * 8 and all(row.own for row in products)
    assert explained.share == 1.0
    of_two = sum(row.macs for row in products if row.kernel.endswith("AW"))
    if device != "fpga":  # whose kernel is its array
        total = sum(row.macs for row in products)
        assert of_two / total == pytest.approx(2 * length / (2 * length + 12 * 384))


def test_card_counts_factors_that_are_made_as_input(quantized: accel.Model) -> None:
    shapes = dict.fromkeys(("input_ids", "attention_mask"), (1, 128))
    program = accel.device("fpga").compile(quantized, shapes=shapes)
    assert isinstance(program, FpgaProgram)
    layers = [layer for layer in program.network.layers if layer.oh == 12]
    assert {layer.weight_bytes for layer in layers} == {0}
    assert {layer.input_bytes for layer in layers} == {2 * 128 * 384, 12 * 128**2 + 128 * 384}
    assert {(layer.ow, layer.ic, layer.oc) for layer in layers} == {(128, 32, 128), (128, 128, 32)}


@pytest.mark.parametrize("device", ["mkl", "fpga"])
@pytest.mark.parametrize("length", [9, 40])
def test_other_devices_give_the_same_bits(
    device: str, length: int, quantized: accel.Model, rng: np.random.Generator
) -> None:
    x = sentences(rng, 2, length, WORDS)
    np.testing.assert_array_equal(run(device, quantized, x), run("cpu", quantized, x))


def test_threads_give_the_same_bits(quantized: accel.Model, rng: np.random.Generator) -> None:
    x, device = sentences(rng, 4, 33, WORDS), accel.device("cpu")
    found = [
        device.compile(quantized, threads=threads, shapes=dict.fromkeys(x, (4, 33))).run(x)
        for threads in (1, 2, 3)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_saved_program_gives_the_same_bits(
    quantized: accel.Model, rng: np.random.Generator, tmp_path: Path
) -> None:
    x = sentences(rng, 1, 40, WORDS)
    program = accel.device("cpu").compile(quantized, shapes=dict.fromkeys(x, (1, 40)))
    again = accel.load_program(program.save(tmp_path / "encoder.lwp"))
    np.testing.assert_array_equal(again.run(x), program.run(x))
    assert again.explain().share == 1.0


def test_openvino_runs_the_stored_model(
    model: accel.Model, quantized: accel.Model, rng: np.random.Generator
) -> None:
    x = sentences(rng, 2, 16, WORDS)
    expected = run("onnxruntime", model, x)
    assert (run("openvino", quantized, x) * expected).sum(axis=1).min() >= 0.99


def test_stored_model_is_a_quarter_of_the_size(model: accel.Model, quantized: accel.Model) -> None:
    assert len(quantized.to_bytes()) <= 0.261 * len(model.to_bytes())
