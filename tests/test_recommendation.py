"""Recommendation networks: embeddings are looked up, dense layers run in int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import FLOAT, Net
from onnx import TensorProto, helper, load_from_string
from recommenders import ncf, wide_and_deep

import accel
from accel.passes.quantize_tables import MIN_COLUMNS, MIN_ROWS

Array = np.ndarray[Any, Any]
CLOSE = 0.01  # of a score, 0..1


def inputs_of(model: accel.Model, n: int, rng: np.random.Generator) -> dict[str, Array]:
    found = {}
    for spec in model.inputs:
        shape = (n, *(d or 1 for d in spec.shape[1:]))
        integer = spec.dtype == np.int64
        array = rng.integers(0, 3706, shape) if integer else rng.standard_normal(shape)
        found[spec.name] = array.astype(spec.dtype)
    return found


def run(device: str, model: accel.Model, x: Any, **options: Any) -> Array:
    found = accel.device(device).compile(model, **options).run(x)
    assert isinstance(found, np.ndarray)
    return found


@pytest.mark.parametrize("build", [ncf, wide_and_deep])
def test_scores_stay_near_fp32_with_all_products_in_int8(
    build: Callable[[], bytes], rng: np.random.Generator
) -> None:
    model = accel.load(build())
    quantized, x = model.quantize(), inputs_of(model, 50, rng)
    expected = run("onnxruntime", model, x, batch_size=16)
    found = run("cpu", quantized, x, batch_size=16)
    assert found.shape == expected.shape == (50, 1)
    assert np.abs(found - expected).max() <= CLOSE
    assert expected.std() > 5 * np.abs(found - expected).std()
    explained = accel.device("cpu").compile(quantized).explain()
    assert explained.share == 1.0
    assert len(quantized.to_bytes()) <= 0.27 * len(model.to_bytes())
    np.testing.assert_array_equal(run("mkl", quantized, x, batch_size=50), found)


def gather(table: Array, *, axis: int = 0) -> accel.Model:
    net = Net()
    net.op("Gather", net.constant("table", table), "i", axis=axis)
    info = helper.make_tensor_value_info("i", TensorProto.INT64, ["N"])
    proto = load_from_string(net.model({}, {}))
    proto.graph.input.append(info)
    proto.graph.output.append(helper.make_tensor_value_info("gather_0", FLOAT, None))
    del proto.graph.output[:]
    shape = ["N", table.shape[1]] if axis == 0 else [table.shape[0], "N"]
    proto.graph.output.append(helper.make_tensor_value_info("gather_0", FLOAT, shape))
    return accel.load(proto.SerializeToString())


def test_rows_of_any_size_keep_their_own_scale(rng: np.random.Generator) -> None:
    table = rng.standard_normal((1000, 40)).astype(np.float32)
    table *= np.float32(10.0) ** rng.integers(-20, 20, (1000, 1)).astype(np.float32)
    table[7] = 0
    found = run("cpu", gather(table).quantize(), np.arange(1000), batch_size=1000)
    peak = np.abs(table).max(axis=1, keepdims=True)
    assert (np.abs(found - table) <= 0.501 / 127 * peak).all()
    np.testing.assert_array_equal(found[7], 0)


def test_even_short_rows_share_scales_and_keep_the_first_exact(rng: np.random.Generator) -> None:
    table = rng.standard_normal((1000, 16)).astype(np.float32)
    table[:, 3] *= 1000
    model = gather(table)
    quantized = model.quantize()
    found = run("cpu", quantized, np.arange(1000), batch_size=1000)
    peak = np.abs(table).max(axis=0)
    assert (np.abs(found - table) <= 0.501 / (127 - 0.5) * peak).all()
    np.testing.assert_allclose(found[0], table[0], rtol=0, atol=1e-6 * peak.max())
    assert len(quantized.to_bytes()) <= 0.26 * len(model.to_bytes()) + 500


def test_negative_and_repeated_rows_are_looked_up(rng: np.random.Generator) -> None:
    table = rng.standard_normal((MIN_ROWS, MIN_COLUMNS)).astype(np.float32)
    model = gather(table)
    x = np.array([-1, 5, 5, 0, MIN_ROWS - 1])
    expected = run("onnxruntime", model, x)
    assert np.abs(run("cpu", model.quantize(), x) - expected).max() <= 0.02


def test_tables_without_rows_to_spare_stay_as_they_are(rng: np.random.Generator) -> None:
    for table, axis in (
        (rng.standard_normal((MIN_ROWS - 1, MIN_COLUMNS)), 0),
        (rng.standard_normal((MIN_ROWS, MIN_COLUMNS)), 1),
        (rng.standard_normal((MIN_ROWS, MIN_COLUMNS - 1)), 0),
        (np.full((MIN_ROWS, MIN_COLUMNS), np.inf), 0),
    ):
        model = gather(table.astype(np.float32), axis=axis)
        x = np.array([0, 3])
        expected = run("onnxruntime", model, x, batch_size=2)
        np.testing.assert_array_equal(run("cpu", model.quantize(), x, batch_size=2), expected)
