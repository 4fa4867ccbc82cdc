"""Programs over columns: which operators behind our kernels become one, and what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net

import accel
from accel.lower import lower
from accel.lower.columns import MAX_NODES
from accel.schedule import ColumnsCall, HostGroup

Array = np.ndarray[Any, Any]
TOLERANCE = 1e-5


def matrix(net: Net, width: int, size: int = 6) -> str:
    """(1, boxes, width) from an image of `size`, as detectors make it."""
    image = net.conv("x", 2 * width, 3, strides=[6 // size] * 2)
    shape = net.constant(f"shape{len(net.nodes)}", np.array([1, -1, width]))
    return net.op("Reshape", net.op("Transpose", image, perm=[0, 2, 3, 1]), shape)


def run(net: Net, *outputs: str, programs: int, foreign: bool = False) -> list[Array]:
    """The outputs of a network of one image, of which so many programs are made."""
    model = accel.load(net.model({"x": [1, 3, 8, 8]}, {name: ["a", "b", "c"] for name in outputs}))
    calls = lower(model.quantize().with_shapes(1)).calls
    assert sum(isinstance(call, ColumnsCall) for call in calls) == programs
    assert any(isinstance(call, HostGroup) for call in calls) == foreign
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    found: Any = accel.device("cpu").compile(model.quantize()).run({"x": x})
    return [found[name] for name in outputs] if len(outputs) > 1 else [found]


def test_boxes_and_scores_of_a_detector_are_two_programs(rng: np.random.Generator) -> None:
    net = Net()
    low, high = matrix(net, 4), matrix(net, 4, 3)
    some, more = matrix(net, 2), matrix(net, 2, 3)
    boxes, scores = net.op("Concat", low, high, axis=1), net.op("Concat", some, more, axis=-2)
    softmax = net.op("Softmax", scores, axis=-1)
    anchors = rng.random((1, 90, 4), np.float32)
    start, middle, end, last = (net.constant(f"i{i}", np.array([i])) for i in (0, 2, 9, -1))
    one, part = net.constant("one", anchors), net.constant("part", np.float32(0.1))
    two = net.constant("two", np.float32(2))
    centre = net.op("Slice", boxes, start, middle, last)
    size = net.op("Slice", boxes, middle, end, last)
    centre = net.op("Mul", net.op("Mul", centre, part), net.op("Slice", one, middle, end, last))
    size = net.op("Div", net.op("Exp", net.op("Mul", size, part)), two)
    corners = net.op("Concat", net.op("Sub", centre, size), net.op("Add", centre, size), axis=2)
    b, s, *parts = run(net, corners, softmax, low, high, some, more, programs=2)
    raw = np.concatenate(parts[:2], 1)
    at, half = raw[..., :2] * np.float32(0.1) * anchors[..., 2:], np.exp(raw[..., 2:] * 0.1) / 2
    np.testing.assert_allclose(b, np.concatenate([at - half, at + half], 2), atol=TOLERANCE)
    e = np.exp(np.concatenate(parts[2:], 1))
    np.testing.assert_allclose(s, e / e.sum(2, keepdims=True), atol=TOLERANCE)


def test_softmax_of_each_row_of_a_batch(rng: np.random.Generator) -> None:
    net = Net()
    flat = net.op("Flatten", net.op("GlobalAveragePool", net.conv("x", 10, 3)))
    y = net.op("Softmax", flat, axis=1)
    model = accel.load(net.model({"x": ["N", 3, 8, 8]}, {flat: ["N", 10], y: ["N", 10]}))
    x = rng.standard_normal((5, 3, 8, 8)).astype(np.float32)
    program = accel.device("cpu").compile(model.quantize(), batch_size=5)
    found = program.run({"x": x})
    e = np.exp(found[flat])
    np.testing.assert_allclose(found[y], e / e.sum(1, keepdims=True), atol=TOLERANCE)
    assert {row.where for row in program.explain().rows} == {"cpu"}


def test_a_value_that_others_read_too_is_made_for_them() -> None:
    net = Net()
    a = matrix(net, 4)
    doubled = net.op("Add", a, a)
    y, abs_ = net.op("Exp", doubled), net.op("Abs", doubled)
    found, both, raw = run(net, y, abs_, a, programs=2, foreign=True)
    np.testing.assert_allclose(found, np.exp(2 * raw), rtol=TOLERANCE)
    np.testing.assert_allclose(both, np.abs(2 * raw), rtol=TOLERANCE)


@pytest.mark.parametrize("reason", ["wide", "operator", "axis", "long", "rows"])
def test_other_operators_run_on_the_host(reason: str) -> None:
    net = Net()
    a = matrix(net, 40 if reason == "wide" else 4)
    y = a
    if reason == "wide":
        y = net.op("Softmax", a, axis=-1)
    elif reason == "operator":
        y = net.op("Tan", a)
    elif reason == "axis":
        y = net.op("Softmax", a, axis=1)
    elif reason == "rows":
        shape = net.constant("shape", np.array([1, -1, 8]))
        y = net.op("Exp", net.op("Reshape", net.op("Tan", a), shape))
    for _ in range(MAX_NODES + 1 if reason == "long" else 0):
        y = net.op("Identity", net.op("Tan", y))
    run(net, y, programs=0, foreign=True)
