"""Accuracy of the real trained models in int8, where they are present; and of the demo's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel
from accel.demo import digits_model, digits_test

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[1]

# every CNN of the shared data; the text model has no convolution but matrix products
NETWORKS = [
    "mobilenet_v1_1.0_224_trunk12.onnx",
    "mobilenet_v2_1.0_224_ptq_dq.onnx.xz",
    "resnet20_cifar10.onnx",
    "resnet56_cifar10.onnx",
    "resnet8_cifar10.onnx",
    "squeezenet1.1.onnx",
    "st_ssd_mobilenet_v1_0.25_256.onnx",
    "text_classification.onnx",
    "version-RFB-320.onnx",
    "vww_mobilenet_v1_0.25_96.onnx",
    "yolo-fastest-1.1.onnx",
]
RELATIVE_ERROR = 0.05  # of any output's norm, on random images


@pytest.mark.parametrize("file", NETWORKS)
def test_shared_network_runs_on_own_code_everywhere_with_equal_bits(
    file: str, shared: Path, rng: np.random.Generator
) -> None:
    model = accel.load(shared / "data" / "models" / file)
    quantized = model.quantize()
    x = {s.name: rng.random([d or 2 for d in s.shape]).astype(s.dtype) for s in model.inputs}
    reference = outputs(accel.device("onnxruntime").compile(model).run(x))
    cpu = accel.device("cpu").compile(quantized)
    assert cpu.explain().share >= 0.98
    expected = outputs(cpu.run(x))
    for got, want in zip(expected, reference, strict=True):
        assert np.linalg.norm(got - want) <= RELATIVE_ERROR * np.linalg.norm(want)
    for name in ("mkl", "fpga"):
        program = accel.device(name).compile(quantized)
        assert program.explain().share >= 0.98
        for got, want in zip(outputs(program.run(x)), expected, strict=True):
            np.testing.assert_array_equal(got, want)


# of rows that keep the class of fp32, on exactly the data of the table's row
AGREEMENT = {
    "resnet20, exact pixels": 0.994,
    "resnet56, exact pixels": 0.991,
    "resnet8, exact pixels": 0.979,
    "squeezenet1.1": 0.964,
    "mobilenet_v2": 0.988,
    "vww_mobilenet": 0.99,
    "text_classification": 0.984,
}


def test_classifiers_reach_their_published_accuracy_and_keep_it(
    shared: Path, tmp_path: Path
) -> None:
    """The quick part of bench/accuracy.py, whose table docs/accuracy.md shows."""
    script, found = ROOT / "bench" / "accuracy.py", tmp_path / "accuracy.json"
    parts = "exact,squeezenet,mobilenet_v2,vww,text"
    command = [sys.executable, script, "--quick", "--only", parts, "--json", found]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {r["task"]: r for r in json.loads(found.read_text()) if r["form"] == "default"}
    assert set(rows) == set(AGREEMENT)
    for name, row in rows.items():
        assert row["fp32"] == pytest.approx(row["published"], abs=0.0005)
        assert row["comparison"]["agreement"] >= AGREEMENT[name]
        assert row["balanced"]


@pytest.mark.parametrize("weight_window", [None, 32])
def test_digits_agree_with_fp32(weight_window: int | None) -> None:
    images, labels = digits_test()
    check_agreement(digits_model(), images, labels, least=0.99, weight_window=weight_window)


def check_agreement(
    model: accel.Model,
    images: Array,
    labels: Array,
    least: float,
    weight_window: int | None = None,
) -> None:
    fp32 = top1(accel.device("onnxruntime").compile(model, 32, threads=2).run(images))
    quantized = model.quantize(weight_window=weight_window)
    int8 = top1(accel.device("cpu").compile(quantized, 32, threads=2).run(images))
    won = int(((int8 == labels) & (fp32 != labels)).sum())
    lost = int(((int8 != labels) & (fp32 == labels)).sum())
    assert (int8 == fp32).mean() >= least
    assert abs(won - lost) <= 2 * np.sqrt(won + lost)


def top1(y: Any) -> Array:
    assert isinstance(y, np.ndarray)
    found: Array = y.argmax(axis=1)
    return found


def outputs(y: Any) -> list[Array]:
    return list(y.values()) if isinstance(y, dict) else [y]
