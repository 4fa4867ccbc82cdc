"""LSTM and GRU networks: the recurrence in ONNX Runtime, dense layers on our kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net

import accel

Array = np.ndarray[Any, Any]
GATES = {"LSTM": 4, "GRU": 3}


def tagger(kind: str, direction: str, hidden: int = 24, size: int = 16) -> bytes:
    """(steps, N, size) to a score of 5 classes for each step."""
    net = Net()
    ways = 2 if direction == "bidirectional" else 1
    rows = GATES[kind] * hidden
    shapes = {"w": (ways, rows, size), "r": (ways, rows, hidden), "b": (ways, 2 * rows)}
    names = [
        net.constant(key, (net.rng.standard_normal(shape) * 0.3).astype(np.float32))
        for key, shape in shapes.items()
    ]
    y = net.op(kind, "x", *names, hidden_size=hidden, direction=direction)
    joined = net.op("Transpose", y, perm=[0, 2, 1, 3])  # (steps, ways, N, hidden)
    flat = net.op("Reshape", joined, net.constant("s", np.array([0, 0, ways * hidden])))
    dense = net.rng.standard_normal((ways * hidden, 5)).astype(np.float32)
    scores = net.op("MatMul", flat, net.constant("d", dense))
    return net.model({"x": ["T", "N", size]}, {scores: ["T", "N", 5]})


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_network_runs_with_its_dense_layer_in_int8(
    kind: str, direction: str, rng: np.random.Generator
) -> None:
    model = accel.load(tagger(kind, direction))
    quantized = model.quantize()
    programs = {
        name: accel.Programs(accel.device(name), m)
        for name, m in (("onnxruntime", model), ("cpu", quantized))
    }
    for steps, n in ((12, 3), (1, 1), (5, 8)):
        x = rng.standard_normal((steps, n, 16)).astype(np.float32)
        expected, found = (programs[name].run(x) for name in ("onnxruntime", "cpu"))
        assert isinstance(expected, np.ndarray) and isinstance(found, np.ndarray)
        assert np.linalg.norm(found - expected) <= 0.02 * np.linalg.norm(expected)
    assert len(programs["cpu"]) == 3
    explained = programs["cpu"].program({"x": (12, 3, 16)}).explain()
    where = {row.op: row.where for row in explained.rows}
    assert where[kind] == "onnxruntime" and where["MatMul"] == "cpu"
    assert explained.share == 1.0
