"""The backend interface of the onnx package: its own suites, its nine light networks, bad input.

What is excluded, and why, stands in onnx_exclusions.toml; a test that is excluded and passes fails
here, so that the list stays true.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import FLOAT, Net, small_cnn
from onnx import TensorProto, helper

import accel.onnx_backend as backend
from accel.errors import DeviceError, InputError, UnsupportedError

HERE = Path(__file__).parent
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
PASSES = 1450  # of the suites, at least
FP32, INT8 = 1e-4, 0.02  # relative norm of the error of a light network

Array = np.ndarray[Any, Any]


def release(version: str) -> tuple[int, int]:
    """Major and minor number."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def exclusions() -> dict[str, str]:
    """Name of each test that is excluded with the installed ONNX Runtime, and the reason."""
    groups = tomllib.loads((HERE / "onnx_exclusions.toml").read_text())["exclusion"]
    installed = release(onnxruntime.__version__)
    groups = [g for g in groups if "below" not in g or installed < release(g["below"])]
    listed = [(name, group["reason"]) for group in groups for name in group["tests"]]
    assert len({name for name, _ in listed}) == len(listed)
    return dict(listed)


def test_suites_of_the_onnx_package_pass_but_for_the_listed_exclusions() -> None:
    done = subprocess.run(
        [sys.executable, HERE / "onnx_suite.py"], capture_output=True, text=True, check=True
    )
    found = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    failed = {name: fault for name, fault in found.items() if fault != "passed"}
    excluded = exclusions()
    print(f"{len(found) - len(failed)} of {len(found)} pass, {len(excluded)} are excluded")
    assert not {n: f for n, f in failed.items() if n not in excluded}
    assert not [n for n in excluded if n in found and n not in failed], "pass now: take them out"
    assert not [n for n in excluded if n not in found], "no such test any more: take them out"
    assert len(found) - len(failed) >= PASSES


@pytest.mark.parametrize("network", sorted(p.stem for p in LIGHT.glob("*.onnx")))
def test_light_network_matches_its_expected_output(network: str) -> None:
    proto = onnx.load(LIGHT / f"{network}.onnx")
    tensor = onnx.TensorProto.FromString((LIGHT / f"{network}_output_0.pb").read_bytes())
    expected = onnx.numpy_helper.to_array(tensor)
    constants = {t.name for t in proto.graph.initializer}
    (x,) = (v for v in proto.graph.input if v.name not in constants)
    shape = [d.dim_value for d in x.type.tensor_type.shape.dim]
    image = (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)
    fp32 = backend.run_model(proto, [image], "onnxruntime", quantize=False)[0]
    assert np.linalg.norm(fp32 - expected) <= FP32 * np.linalg.norm(expected)
    int8 = backend.run_model(proto, [image])[0]
    assert np.linalg.norm(int8 - expected) <= INT8 * np.linalg.norm(expected)


def test_all_nine_light_networks_are_there() -> None:
    assert len(list(LIGHT.glob("*.onnx"))) == 9


def test_prepared_model_takes_inputs_in_order_by_name_or_alone(rng: np.random.Generator) -> None:
    prepared = backend.prepare(onnx.load_from_string(small_cnn()))
    x = rng.standard_normal((2, 3, 13, 11)).astype(np.float32)
    expected = prepared.run([x])
    assert expected.logits.shape == (2, 10)
    for inputs in (x, {"image": x}, (x,)):
        np.testing.assert_array_equal(prepared.run(inputs)[0], expected[0])


def test_prepared_model_compiles_once_for_each_shape(rng: np.random.Generator) -> None:
    prepared = backend.prepare(onnx.load_from_string(small_cnn()))
    for n in (1, 3, 1, 3, 2):
        assert prepared.run(np.zeros((n, 3, 13, 11), np.float32))[0].shape == (n, 10)
    assert len(prepared._programs) == 3


def test_run_node_computes_one_operator(rng: np.random.Generator) -> None:
    a, b = (rng.standard_normal((3, 4)).astype(np.float32) for _ in "ab")
    (total,) = backend.run_node(helper.make_node("Add", ["a", "b"], ["y"]), [a, b])
    np.testing.assert_array_equal(total, a + b)
    node = helper.make_node("Shape", ["a"], ["y"])
    (shape,) = backend.run_node(node, [a], outputs_info=[(np.dtype(np.int64), (2,))])
    np.testing.assert_array_equal(shape, [3, 4])


def test_devices_are_known_by_the_names_of_both() -> None:
    for name in ("CPU", "CPU:0", "cpu", "onnxruntime", "fpga:1"):
        assert backend.supports_device(name)
    for name in ("CUDA", "CUDA:0", "CPU:1", "", "nonsense"):
        assert not backend.supports_device(name)
    with pytest.raises(DeviceError, match="CUDA"):
        backend.prepare(onnx.load_from_string(small_cnn()), "CUDA")


def test_compatible_is_what_can_be_prepared() -> None:
    proto = onnx.load_from_string(small_cnn())
    assert backend.is_compatible(proto)
    assert not backend.is_compatible(proto, "CUDA")
    del proto.graph.output[:]
    proto.graph.node[0].op_type = "NoSuchOperator"
    assert not backend.is_compatible(proto)


def test_wrong_inputs_are_refused() -> None:
    prepared = backend.prepare(onnx.load_from_string(small_cnn()))
    with pytest.raises(InputError, match="2 inputs given; the model takes 1"):
        prepared.run([np.zeros(1), np.zeros(1)])
    with pytest.raises(InputError, match="dtype"):
        prepared.run(np.zeros((1, 3, 13, 11)))


def test_strings_and_sequences_are_refused() -> None:
    node = helper.make_node("StringConcat", ["a", "b"], ["y"])
    strings = np.array(["p", "q"], object)
    with pytest.raises(UnsupportedError, match=r"tensor\(string\)"):
        backend.run_node(node, [strings, strings])
    pair = helper.make_tensor_sequence_value_info("s", FLOAT, None)
    out = helper.make_tensor_value_info("y", TensorProto.INT64, [])
    graph = helper.make_graph(
        [helper.make_node("SequenceLength", ["s"], ["y"])], "g", [pair], [out]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    with pytest.raises(UnsupportedError, match="'s' is of type sequence"):
        backend.run_model(proto, [[np.zeros(1, np.float32)]])


def test_inputs_need_not_follow_one_batch(rng: np.random.Generator) -> None:
    """A recurrent network's state counts layers first, its steps count time."""
    net = Net()
    y = net.op("Add", "a", net.op("MatMul", "b", "c"))
    shapes = {"a": (5, 3), "b": (5, 4), "c": (4, 3)}
    proto = onnx.load_from_string(net.model({k: list(s) for k, s in shapes.items()}, {y: [5, 3]}))
    x = {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
    found = backend.run_model(proto, x)[0]
    np.testing.assert_allclose(found, x["a"] + x["b"] @ x["c"], rtol=1e-5, atol=1e-5)
