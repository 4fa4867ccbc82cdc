"""Program: the contract of every device, and what bad input gets."""

from __future__ import annotations

import importlib.util
import threading
from typing import Any

import numpy as np
import pytest
from networks import Net, small_cnn

import accel
from accel.errors import DeviceError, InputError, ModelError, UnsupportedError

DEVICES = ["cpu", "mkl", "openvino", "onnxruntime", "fpga", "auto"]
OWN = ["cpu", "mkl", "fpga"]
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def fp32() -> accel.Model:
    return accel.load(small_cnn())


@pytest.fixture(scope="module")
def model(fp32: accel.Model) -> accel.Model:
    return fp32.quantize()


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    return rng.standard_normal((5, 3, 13, 11)).astype(np.float32)


@pytest.fixture
def reference(fp32: accel.Model, x: Array) -> Array:
    found = accel.device("onnxruntime").compile(fp32).run(x)
    assert isinstance(found, np.ndarray)
    return found


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_is_close_to_fp32(
    name: str, model: accel.Model, x: Array, reference: Array
) -> None:
    y = accel.device(name).compile(model, batch_size=2).run(x)
    assert isinstance(y, np.ndarray) and y.shape == (5, 10) and y.dtype == np.float32
    assert np.linalg.norm(y - reference) < 0.03 * np.linalg.norm(reference)


@pytest.mark.parametrize("weight_window", [None, 16])
@pytest.mark.parametrize("name", ["mkl", "fpga"])
def test_own_devices_give_identical_bits(
    name: str, weight_window: int | None, fp32: accel.Model, x: Array
) -> None:
    model = fp32.quantize(weight_window=weight_window)
    expected = accel.device("cpu").compile(model).run(x)
    np.testing.assert_array_equal(accel.device(name).compile(model).run(x), expected)


@pytest.mark.parametrize("batch_size, threads", [(1, 1), (2, 2), (7, 1), (64, 2)])
def test_batch_size_and_threads_do_not_change_the_bits(
    batch_size: int, threads: int, model: accel.Model, x: Array
) -> None:
    expected = accel.device("cpu").compile(model, batch_size=5).run(x)
    got = accel.device("cpu").compile(model, batch_size, threads).run(x)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", OWN)
def test_own_devices_run_all_multiplications(name: str, model: accel.Model) -> None:
    explanation = accel.device(name).compile(model).explain()
    assert explanation.share >= 0.98
    assert "MaxPool" in str(explanation) and explanation.to_dict()["share"] == explanation.share


@pytest.mark.parametrize("name", OWN)
def test_own_devices_refuse_fp32_models(name: str, fp32: accel.Model) -> None:
    with pytest.raises(ModelError, match=r"model\.quantize\(\)"):
        accel.device(name).compile(fp32)


def test_strict_refuses_operators_outside_our_kernels(model: accel.Model) -> None:
    net = Net()
    y = net.op("Tanh", net.conv("x", 4, 3))
    foreign = accel.load(net.model({"x": ["N", 3, 8, 8]}, {y: ["N", 4, 6, 6]})).quantize()
    with pytest.raises(UnsupportedError, match="Tanh"):
        accel.device("cpu").compile(foreign, strict=True)
    assert accel.device("cpu").compile(model, strict=True).explain().share == 1.0


def test_auto_says_what_it_took(model: accel.Model) -> None:
    notes = accel.device("auto").compile(model).explain().notes
    assert notes[0].startswith("auto took ") and " ms" in notes[0] and "fpga" not in notes[0]


@pytest.mark.parametrize("name", DEVICES)
def test_job_gives_what_run_gives(name: str, model: accel.Model, x: Array) -> None:
    program = accel.device(name).compile(model, batch_size=5)
    job = program.submit(x)
    np.testing.assert_array_equal(job.result(timeout=60), program.run(x))
    assert job.done()
    assert (job.simulated_ns is not None and job.simulated_ns > 0) == (name == "fpga")


def test_runs_from_several_threads_do_not_mix(model: accel.Model, rng: np.random.Generator) -> None:
    program = accel.device("cpu").compile(model, batch_size=2, threads=2)
    batches = [rng.standard_normal((2, 3, 13, 11)).astype(np.float32) for _ in range(4)]
    expected: list[Any] = [program.run(b) for b in batches]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            found: Any = program.run(batches[i])
            if not np.array_equal(found, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize(
    "bad, message",
    [
        (np.zeros((1, 3, 13, 12), np.float32), r"has shape \(1, 3, 13, 12\), expected \(N, 3, 13"),
        (np.zeros((3, 13, 11), np.float32), "has shape"),
        (np.zeros((0, 3, 13, 11), np.float32), "has shape"),
        (np.zeros((1, 3, 13, 11), np.float64), "dtype float64, expected float32"),
        ({"picture": np.zeros((1, 3, 13, 11), np.float32)}, "unknown: .*picture.*missing"),
        ([[1.0]], "is a list"),
        (np.full((1, 3, 13, 11), np.nan, np.float32), "NaN or infinity"),
        (np.full((1, 3, 13, 11), np.inf, np.float32), "NaN or infinity"),
    ],
)
def test_bad_input_is_refused_and_the_program_lives_on(
    name: str, bad: Any, message: str, model: accel.Model, x: Array
) -> None:
    program = compiled(name, model)
    with pytest.raises(InputError, match=message):
        program.run(bad)
    with pytest.raises(InputError, match=message):
        program.submit(bad)
    y = program.run(x[:1])
    assert isinstance(y, np.ndarray) and np.isfinite(y).all()


_programs: dict[tuple[str, str], accel.Program] = {}


def compiled(name: str, model: accel.Model) -> accel.Program:
    key = (name, model.digest)
    if key not in _programs:
        _programs[key] = accel.device(name).compile(model)
    return _programs[key]


def test_overflow_inside_the_network_is_an_error_not_a_wrong_answer(model: accel.Model) -> None:
    program = accel.device("cpu").compile(model)
    with pytest.raises(ValueError, match="NaN or infinity"):
        program.run(np.full((1, 3, 13, 11), 3e38, np.float32))
    y = program.run(np.zeros((1, 3, 13, 11), np.float32))
    assert isinstance(y, np.ndarray) and np.isfinite(y).all()


def test_model_with_a_batch_of_no_rows_takes_none(rng: np.random.Generator) -> None:
    net = Net()
    data = net.model({"x": [0, 3, 8, 8]}, {net.conv("x", 4, 3): [0, 4, 6, 6]})
    program = accel.device("cpu").compile(accel.load(data).quantize())
    assert np.asarray(program.run(np.zeros((0, 3, 8, 8), np.float32))).shape == (0, 4, 6, 6)
    with pytest.raises(InputError, match="batch at 0 rows"):
        program.run(np.zeros((1, 3, 8, 8), np.float32))


def test_model_with_a_fixed_batch_runs_any_number_of_rows(x: Array, model: accel.Model) -> None:
    fixed = accel.load(small_cnn(batch=2)).quantize()
    program = accel.device("cpu").compile(fixed, batch_size=8)
    assert program.batch_size == 2
    np.testing.assert_array_equal(program.run(x), accel.device("cpu").compile(model).run(x))


def test_free_inner_dimensions_need_shapes(rng: np.random.Generator) -> None:
    net = Net()
    y = net.conv("image", 8, 3)
    model = accel.load(net.model({"image": ["N", 3, "H", "W"]}, {y: ["N", 8, "a", "b"]})).quantize()
    with pytest.raises(ModelError, match=r"free dimensions .* shapes="):
        accel.device("cpu").compile(model)
    program = accel.device("cpu").compile(model, shapes={"image": (2, 3, 9, 9)})
    found = program.run(rng.standard_normal((2, 3, 9, 9)).astype(np.float32))
    assert isinstance(found, np.ndarray) and found.shape == (2, 8, 7, 7)


@pytest.mark.parametrize("name", DEVICES)
def test_unknown_operator_is_a_typed_error(name: str) -> None:
    net = Net()
    y = net.op("Frobnicate", "x", domain="com.example")
    data = net.model({"x": ["N", 4]}, {y: ["N", 4]})
    with pytest.raises((UnsupportedError, ModelError), match="Frobnicate"):
        accel.device(name).compile(accel.load(data).quantize())


def test_several_inputs_and_outputs_go_by_name(rng: np.random.Generator) -> None:
    net = Net()
    w = net.constant("w", rng.standard_normal((6, 5)).astype(np.float32))
    total, product = net.op("Add", "a", "b"), net.op("MatMul", "a", w)
    data = net.model({"a": ["N", 6], "b": ["N", 6]}, {total: ["N", 6], product: ["N", 5]})
    program = accel.device("cpu").compile(accel.load(data).quantize(), batch_size=2)
    a, b = (rng.standard_normal((3, 6)).astype(np.float32) for _ in "ab")
    found = program.run({"a": a, "b": b})
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found[total], a + b)
    assert found[product].shape == (3, 5)
    with pytest.raises(InputError, match="different numbers of rows"):
        program.run({"a": a, "b": b[:2]})
    with pytest.raises(InputError, match="give a dict"):
        program.run(a)


@pytest.mark.parametrize("bad", ["gpu", "cpu:x", "", "fpga:9999", "CPU"])
def test_unknown_device_lists_the_known_ones(bad: str) -> None:
    with pytest.raises(DeviceError, match="not found; available: cpu, mkl, openvino"):
        accel.device(bad)


def test_unknown_option_of_a_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="does not take"):
        accel.device("cpu", card="alveo-u50")


def test_uninstalled_device_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"pip install 'lwaccel\[openvino\]'"):
        accel.device("openvino")
    info = {d.name: d for d in accel.devices()}
    assert not info["openvino"].available and info["cpu"].available


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"threads": 0}, {"threads": 257}])
def test_compile_refuses_sizes_out_of_range(model: accel.Model, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"expected 1\.\."):
        accel.device("cpu").compile(model, **arguments)
