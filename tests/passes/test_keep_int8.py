"""Models that others have quantized: their int8 weights are kept, their activations get windows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import FLOAT, Net, small_cnn
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

import accel
from accel.demo import digits_model, digits_test
from accel.passes.keep_int8 import keep_int8

Array = np.ndarray[Any, Any]
CLOSE = 0.03  # relative norm: two roundings of the activations, ours and theirs


class Images(CalibrationDataReader):  # type: ignore[misc]
    """A few inputs, as onnxruntime's tool wants them."""

    def __init__(self, name: str, images: list[Array]) -> None:
        self._batches = iter([{name: x} for x in images])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """The tool recommends its own preparation by warnings in the log."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def image(rng: np.random.Generator, n: int = 4) -> Array:
    return rng.standard_normal((n, 3, 13, 11)).astype(np.float32)


def static(path: Path, rng: np.random.Generator, **options: Any) -> accel.Model:
    reader = Images("image", [image(rng) for _ in range(8)])
    quantize_static(onnx.load_from_string(small_cnn()), path, reader, **options)
    return accel.load(path)


def run(device: str, model: accel.Model, x: Array) -> Array:
    y = accel.device(device).compile(model).run(x)
    assert isinstance(y, np.ndarray)
    return y


def stored_weights(model: accel.Model) -> dict[str, Array]:
    """int8 matrices and filters of a model, by content."""
    tensors = [
        numpy_helper.to_array(t) for t in onnx.load_from_string(model.to_bytes()).graph.initializer
    ]
    return {a.tobytes().hex(): a for a in tensors if a.dtype == np.int8 and a.ndim > 1}


@pytest.mark.parametrize("weights", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_statically_quantized_model_runs_all_its_products_on_int8(
    form: QuantFormat, per_channel: bool, weights: QuantType, tmp_path: Path,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    model = static(
        tmp_path / "q.onnx", rng, quant_format=form, per_channel=per_channel, weight_type=weights,
        activation_type=QuantType.QUInt8,
    )  # fmt: skip
    kept, x = model.quantize(), image(rng)
    if weights == QuantType.QInt8:
        assert stored_weights(model) and set(stored_weights(kept)) == set(stored_weights(model))
    explained = accel.device("cpu").compile(kept).explain()
    assert explained.share == 1.0
    assert not any("Linear" in row.op for row in explained.rows)
    expected = run("onnxruntime", model, x)
    assert np.linalg.norm(run("cpu", kept, x) - expected) <= CLOSE * np.linalg.norm(expected)


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamically_quantized_model_keeps_its_weights(
    per_channel: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    quantize_dynamic(
        onnx.load_from_string(small_cnn()), tmp_path / "q.onnx", per_channel=per_channel,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    model, x = accel.load(tmp_path / "q.onnx"), image(rng)
    kept = model.quantize()
    assert stored_weights(model) and set(stored_weights(kept)) == set(stored_weights(model))
    assert accel.device("cpu").compile(kept).explain().share == 1.0
    expected = run("onnxruntime", model, x)
    assert np.linalg.norm(run("cpu", kept, x) - expected) <= CLOSE * np.linalg.norm(expected)


def test_trained_model_quantized_by_others_keeps_its_accuracy(tmp_path: Path) -> None:
    images, labels = digits_test()
    model = digits_model()
    (spec,) = model.inputs
    calibration = [images[i : i + 1].astype(spec.dtype) for i in range(16)]
    quantize_static(
        onnx.load_from_string(model.to_bytes()),
        tmp_path / "q.onnx",
        Images(spec.name, calibration),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    found = [
        accel.device(name).compile(m, 32).run(images)
        for name, m in (
            ("onnxruntime", model),
            ("onnxruntime", accel.load(tmp_path / "q.onnx")),
            ("cpu", accel.load(tmp_path / "q.onnx").quantize()),
        )
    ]
    fp32, theirs, ours = (y.argmax(axis=1) for y in found if isinstance(y, np.ndarray))
    assert (ours == fp32).mean() >= max(0.99, (theirs == fp32).mean() - 0.002)
    assert (ours == labels).mean() >= (fp32 == labels).mean() - 0.005


def qdq(net: Net, x: str, scale: float, zero: int, dtype: Any = np.uint8) -> str:
    n = len(net.nodes)
    names = [net.constant(f"s{n}", np.float32(scale)), net.constant(f"z{n}", np.array(zero, dtype))]
    return net.op("DequantizeLinear", net.op("QuantizeLinear", x, *names), *names)


def operators(model: accel.Model) -> list[str]:
    return [n.op_type for n in keep_int8(model.graph()).graph if n.op_type != "DequantizeLinear"]


@pytest.mark.parametrize(("zero", "kept"), [(0, ["Neg", "Clip"]), (7, ["Neg"])])
def test_pair_that_begins_at_zero_stands_for_the_relu_it_replaced(
    zero: int, kept: list[str], rng: np.random.Generator
) -> None:
    net = Net()
    y = qdq(net, net.op("Neg", "x"), 0.02, zero)
    model = accel.load(net.model({"x": ["N", 5]}, {y: ["N", 5]}))
    assert operators(model) == kept
    x = rng.standard_normal((9, 5)).astype(np.float32)
    expected = np.clip(-x, 0, 255 * 0.02) if zero == 0 else -x
    np.testing.assert_allclose(run("cpu", model.quantize(), x), expected, atol=1e-6)


def test_pairs_around_moves_of_levels_go_away(rng: np.random.Generator) -> None:
    net = Net()
    s, z = net.constant("s", np.float32(0.05)), net.constant("z", np.array(3, np.int8))
    q = net.op("QuantizeLinear", "x", s, z)
    pooled = net.op("MaxPool", q, kernel_shape=[2, 2])
    y = net.op("DequantizeLinear", net.op("Transpose", pooled, perm=[0, 2, 3, 1]), s, z)
    model = accel.load(net.model({"x": ["N", 2, 4, 4]}, {y: ["N", 3, 3, 2]}))
    assert operators(model) == ["MaxPool", "Transpose"]
    x = rng.uniform(-4, 4, (2, 2, 4, 4)).astype(np.float32)
    expected = run("onnxruntime", model, x)
    np.testing.assert_allclose(run("cpu", model.quantize(), x), expected, atol=0.026)


def test_levels_that_are_read_as_integers_stay(rng: np.random.Generator) -> None:
    net = Net()
    s, z = net.constant("s", np.float32(0.05)), net.constant("z", np.array(128, np.uint8))
    q = net.op("QuantizeLinear", "x", s, z)
    y = net.op("DequantizeLinear", q, s, z)
    counted = net.op("Cast", q, to=TensorProto.FLOAT)
    model = accel.load(net.model({"x": ["N", 6]}, {y: ["N", 6], counted: ["N", 6]}))
    x = rng.standard_normal((3, 6)).astype(np.float32)
    expected: Any = accel.device("onnxruntime").compile(model).run(x)
    found: Any = accel.device("cpu").compile(model.quantize()).run(x)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("levels", "zero", "exact"),
    [
        (np.array([-127, 127]), np.int8(0), True),
        (np.array([-128, 127]), np.int8(0), True),  # -128 becomes -127, the others stay
        (np.array([1, 255]), np.uint8(128), True),
        (np.array([0, 255]), np.uint8(100), False),  # 155 steps above zero: rounded once more
        (np.array([-7, 7]), np.int8(0), True),
    ],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_weights_of_any_kind_are_read(
    levels: Array, zero: Any, exact: bool, transposed: bool, rng: np.random.Generator
) -> None:
    q = rng.integers(levels[0], levels[1] + 1, (40, 12)).astype(zero.dtype)
    q[0, :2] = levels
    s = (rng.random(12) / 50 + 0.01).astype(np.float32)
    stored = np.ascontiguousarray(q.T) if transposed else q
    net = Net()
    w = net.op(
        "DequantizeLinear", net.constant("q", stored), net.constant("s", s),
        net.constant("z", np.full(12, zero)), axis=0 if transposed else 1,
    )  # fmt: skip
    y = net.op("MatMul", "x", net.op("Transpose", w) if transposed else w)
    model = accel.load(net.model({"x": ["N", 40]}, {y: ["N", 12]})).quantize()
    real = (q.astype(np.float32) - np.float32(zero)) * s
    if exact:
        (found,) = stored_weights(model).values()
        np.testing.assert_array_equal(found, np.maximum(q.astype(int) - int(zero), -127))
    x = rng.standard_normal((5, 40)).astype(np.float32)
    program = accel.device("cpu").compile(model, strict=True)
    assert program.explain().share == 1.0
    got: Any = program.run(x)
    assert np.linalg.norm(got - x @ real) <= CLOSE * np.linalg.norm(x @ real)


def test_table_of_an_embedding_stays_small(rng: np.random.Generator) -> None:
    table = rng.integers(-127, 128, (5000, 16)).astype(np.int8)
    net = Net()
    s = net.constant("s", np.float32(0.01))
    rows = net.op("DequantizeLinear", net.constant("table", table), s)
    y = net.op("Gather", rows, "i")
    data = net.model({"i": ["N", 3]}, {y: ["N", 3, 16]})
    proto = onnx.load_from_string(data)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    model = accel.load(proto.SerializeToString()).quantize()
    assert len(model.to_bytes()) < 1.05 * table.nbytes
    found = run("cpu", model, np.array([[0, 7, 4999]]))
    np.testing.assert_allclose(found, table[[[0, 7, 4999]]] * np.float32(0.01), rtol=1e-6)


def test_integer_product_of_another_form_runs_on_the_host(rng: np.random.Generator) -> None:
    net = Net()
    q = net.constant("q", rng.integers(-127, 128, (6, 6)).astype(np.int8))
    net.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["l", "s", "z"], name="d"))
    y = net.op("Cast", net.op("MatMulInteger", "l", q, "z"), to=FLOAT)
    model = accel.load(net.model({"x": ["N", 6]}, {y: ["N", 6]}))
    x = rng.standard_normal((4, 6)).astype(np.float32)
    expected = accel.device("onnxruntime").compile(model, 4).run(x)
    found = accel.device("cpu").compile(model.quantize(), 4).run(x)
    np.testing.assert_array_equal(found, expected)
