"""Static QDQ models from samples: values, the engines' own int8 kernels, and bad samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import Net, small_cnn

import accel
from accel.demo import digits_model, digits_test
from accel.errors import InputError, ModelError

Array = np.ndarray[Any, Any]
ENGINES = ["onnxruntime", "openvino"]
CLOSE = 0.03


@pytest.fixture
def samples(rng: np.random.Generator) -> Array:
    return rng.standard_normal((21, 3, 13, 11)).astype(np.float32)


def run(device: str, model: accel.Model, x: Any) -> Any:
    return accel.device(device).compile(model).run(x)


def error(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("engine", ENGINES)
def test_calibrated_model_stays_near_fp32(
    engine: str, samples: Array, rng: np.random.Generator
) -> None:
    model = accel.load(small_cnn())
    x = rng.standard_normal((5, 3, 13, 11)).astype(np.float32)
    expected = run("onnxruntime", model, x)
    assert 0 < error(run(engine, model.calibrate(samples), x), expected) <= CLOSE


@pytest.mark.parametrize("engine", ENGINES)
def test_explain_names_the_form_of_the_model(engine: str, samples: Array) -> None:
    model = accel.load(small_cnn())
    forms = {
        "float32": model,
        "int8 weights, float32 arithmetic": model.quantize(),
        "int8 weights and activations": model.calibrate(samples),
    }
    for kernel, form in forms.items():
        explained = accel.device(engine).compile(form).explain()
        assert {row.kernel for row in explained.rows} == {kernel}
        assert len(explained.rows) == 6
        assert any("samples" in note for note in explained.notes) == ("activations" in kernel)


def test_onnxruntime_runs_every_product_in_its_int8_kernels(samples: Array, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    calibrated = accel.load(small_cnn()).calibrate(samples)
    onnxruntime.InferenceSession(calibrated.to_bytes(), options)
    found = Counter(n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert found["QLinearConv"] == 5 and found["QGemm"] == 1
    assert not {"Conv", "Gemm", "FusedConv"} & set(found)


def test_openvino_runs_every_product_in_its_int8_kernels(samples: Array) -> None:
    net = Net()
    y = net.op("LeakyRelu", net.conv("image", 16, 3), alpha=0.1)
    y = net.conv(y, 16, 16)
    y = net.conv(net.op("Mul", y, net.op("Sigmoid", y)), 16, 16)
    model = accel.load(net.model({"image": ["N", 3, 13, 11]}, {y: ["N", 16, 7, 5]}))
    program: Any = accel.device("openvino").compile(model.calibrate(samples))
    runtime = program._request.get_compiled_model().get_runtime_model()
    info = [op.get_rt_info() for op in runtime.get_ops()]
    kinds = Counter((i["layerType"].astype(str), i["runtimePrecision"].astype(str)) for i in info)
    assert kinds[("Convolution", "u8")] == 3
    assert ("Subgraph", "u8") not in kinds  # the activations run inside the convolutions


def test_windowed_model_can_be_calibrated_and_its_result_quantized(
    samples: Array, rng: np.random.Generator
) -> None:
    model = accel.load(small_cnn())
    x = rng.standard_normal((5, 3, 13, 11)).astype(np.float32)
    expected = run("onnxruntime", model, x)
    for weight_window in (None, 16):
        calibrated = model.quantize(weight_window=weight_window).calibrate(samples)
        assert not calibrated.is_quantized and not calibrated.windows
        assert error(run("onnxruntime", calibrated, x), expected) <= CLOSE
        assert error(run("cpu", calibrated.quantize(), x), expected) <= CLOSE


def test_our_own_devices_refuse_a_calibrated_model(samples: Array) -> None:
    with pytest.raises(ModelError, match=r"call model\.quantize\(\)"):
        accel.device("cpu").compile(accel.load(small_cnn()).calibrate(samples))


def test_trained_model_with_raw_pixels_keeps_its_accuracy() -> None:
    images, labels = digits_test()
    model = digits_model()
    calibrated = model.calibrate(images[:40])
    found = [
        accel.device(name).compile(m, 32).run(images).argmax(axis=1)  # type: ignore[union-attr]
        for name, m in (
            ("onnxruntime", model),
            ("onnxruntime", calibrated),
            ("openvino", calibrated),
        )
    ]
    for int8 in found[1:]:
        assert (int8 == found[0]).mean() >= 0.98
        assert (int8 == labels).mean() >= (found[0] == labels).mean() - 0.01


def test_every_sample_counts_and_a_fixed_batch_is_kept(rng: np.random.Generator) -> None:
    """The largest value sits in the last row: a range that missed it would clip it."""
    x = rng.standard_normal((11, 3, 13, 11)).astype(np.float32)
    x[-1] *= 20
    for batch in ("N", 2):
        model = accel.load(small_cnn(batch=batch))
        expected = run("onnxruntime", model, x)
        assert error(run("onnxruntime", model.calibrate(x), x), expected) <= CLOSE


def test_several_inputs_are_given_by_name(rng: np.random.Generator) -> None:
    net = Net()
    y = net.op("Relu", net.op("Add", net.conv("a", 8, 3), net.conv("b", 8, 4)))
    inputs: dict[str, list[Any]] = {"a": ["N", 3, 6, 6], "b": ["N", 4, 6, 6]}
    model = accel.load(net.model(inputs, {y: ["N", 8, 4, 4]}))
    x = {n: rng.standard_normal((9, *s[1:])).astype(np.float32) for n, s in inputs.items()}
    assert error(run("openvino", model.calibrate(x), x), run("onnxruntime", model, x)) <= CLOSE
    with pytest.raises(InputError, match="same number"):
        model.calibrate({"a": x["a"], "b": x["b"][:3]})
    with pytest.raises(InputError, match="missing"):
        model.calibrate({"a": x["a"]})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((0, 3, 13, 11), np.float32), "no|rows"),
        (np.zeros((4, 3, 13, 12), np.float32), "shape"),
        (np.zeros((4, 3, 13, 11), np.float64), "dtype"),
        (np.full((4, 3, 13, 11), np.nan, np.float32), "NaN"),
        ([1, 2, 3], "rows"),
    ],
)
def test_bad_samples_are_refused(bad: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        accel.load(small_cnn()).calibrate(bad)


def test_too_few_samples_for_a_fixed_batch_are_refused(samples: Array) -> None:
    with pytest.raises(InputError, match="3 rows; the model takes 4 at once"):
        accel.load(small_cnn(batch=4)).calibrate(samples[:3])


def test_model_without_products_is_refused() -> None:
    net = Net()
    y = net.op("Relu", "x")
    with pytest.raises(ModelError, match="nothing to calibrate"):
        accel.load(net.model({"x": ["N", 4]}, {y: ["N", 4]})).calibrate(np.ones((2, 4), np.float32))


def test_tensor_that_is_always_zero_is_calibrated(rng: np.random.Generator) -> None:
    net = Net()
    y = net.conv(net.op("Relu", net.conv("x", 8, 3)), 4, 8)
    model = accel.load(net.model({"x": ["N", 3, 6, 6]}, {y: ["N", 4, 2, 2]}))
    x = np.zeros((3, 3, 6, 6), np.float32)
    for engine in ENGINES:
        assert np.isfinite(run(engine, model.calibrate(x), x)).all()
