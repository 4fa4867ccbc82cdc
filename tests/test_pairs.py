"""A dense convolution is one step of a plan with the depthwise one that alone reads it, with the
dense one that alone adds it, or with the maximum that alone is wanted of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import Net

import accel
from accel import kernels
from accel.lower import lower
from accel.pairs import find_pairs, find_pooled, find_shortcuts

SHAPE = (3, 8, 15, 20)
CLOSE = 0.02


def block(
    activation: str = "Clip", kept: bool = False, depthwise: dict[str, Any] | None = None
) -> bytes:
    """1x1 to 24 channels, the activation, 3x3 of each channel, and 1x1 to 6; `kept`: what lies
    between the first two is an output as well."""
    net = Net()
    x = net.conv("x", 24, 8, k=1)
    if activation == "Clip":
        low, high = (net.constant(n, np.float32(v)) for n, v in (("low", 0), ("high", 2)))
        x = net.op("Clip", x, low, high)
    elif activation:
        x = net.op(activation, x)
    options = {"pads": [1, 1, 1, 1], "group": 24, **(depthwise or {})}
    y = net.op("Relu", net.conv(x, 24, 24, k=3, **options))
    y = net.conv(y, 6, 24, k=1)
    outputs: dict[str, list[Any]] = {y: ["N", 6, "h", "w"]}
    if kept:
        outputs[x] = ["N", 24, 15, 20]
    return net.model({"x": ["N", *SHAPE[1:]]}, outputs)


def pairs_of(data: bytes) -> int:
    return len(find_pairs(lower(accel.load(data).quantize().with_shapes(1))))


@pytest.mark.parametrize("activation", ["Clip", "Relu", "LeakyRelu", "HardSwish", ""])
@pytest.mark.parametrize("stride", [1, 2])
def test_pair_gives_the_values_of_the_network(
    activation: str, stride: int, rng: np.random.Generator
) -> None:
    data = block(activation, depthwise={"strides": [stride, stride]})
    x = rng.standard_normal(SHAPE).astype(np.float32)
    want = accel.device("onnxruntime").compile(accel.load(data), 3).run(x)
    got = accel.device("cpu").compile(accel.load(data).quantize(), 3).run(x)
    assert pairs_of(data) == 1
    assert np.linalg.norm(got - want) <= CLOSE * np.linalg.norm(want)


@pytest.mark.parametrize("activation", ["Clip", "LeakyRelu"])
def test_pair_has_the_same_bits_on_every_device_batch_and_thread(
    activation: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    model = accel.load(block(activation)).quantize()
    x = rng.standard_normal(SHAPE).astype(np.float32)
    program = accel.device("cpu").compile(model, 3, threads=2)
    want = program.run(x)
    for device, batch, threads in (("cpu", 1, 1), ("mkl", 3, 2), ("fpga", 2, 1)):
        got = accel.device(device).compile(model, batch, threads=threads).run(x)
        np.testing.assert_array_equal(got, want, err_msg=device)
    for isa in kernels.isas():
        with kernels.use_isa(isa):
            np.testing.assert_array_equal(accel.device("cpu").compile(model, 3).run(x), want)
    saved = accel.load_program(program.save(tmp_path / "pair.lwprog"))
    np.testing.assert_array_equal(saved.run(x), want)


@pytest.mark.parametrize(
    ("kept", "depthwise"),
    [
        (True, {}),
        (False, {"strides": [3, 3]}),
        (False, {"dilations": [2, 2]}),
        (False, {"pads": [3, 3, 3, 3]}),
    ],
    ids=["output", "stride", "dilation", "pads"],
)
def test_pair_is_none_where_the_kernels_or_a_reader_want_the_value(
    kept: bool, depthwise: dict[str, Any], rng: np.random.Generator
) -> None:
    data = block(kept=kept, depthwise=depthwise)
    assert pairs_of(data) == 0
    x = rng.standard_normal(SHAPE).astype(np.float32)
    got: Any = accel.device("cpu").compile(accel.load(data).quantize(), 3).run(x)
    want: Any = accel.device("onnxruntime").compile(accel.load(data), 3).run(x)
    for name in want if kept else ():
        assert np.linalg.norm(got[name] - want[name]) <= CLOSE * np.linalg.norm(want[name])


def test_pair_shows_both_layers_with_their_shares() -> None:
    program = accel.device("cpu").compile(accel.load(block()).quantize())
    dense, depthwise, last = (row for row in program.explain().rows if row.own)
    assert dense.macs == 15 * 20 * 24 * 8 and depthwise.macs == 15 * 20 * 24 * 9
    assert depthwise.node in dense.note and dense.node in depthwise.note and not last.note
    first, second, _ = (row for row in program.profile(repeats=2).rows if row.own)
    assert first.seconds and second.seconds
    np.testing.assert_allclose(first.seconds / second.seconds, 8 / 9)


def test_pair_needs_no_memory_for_what_lies_between() -> None:
    nodes = {kept: accel.device("cpu").compile(accel.load(block(kept=kept)).quantize()).lives()
             for kept in (False, True)}  # fmt: skip
    assert sum(n.nbytes for n in nodes[False]) < sum(n.nbytes for n in nodes[True])


def projection(kept: bool = False, relu: bool = False) -> bytes:
    """Two branches of a residual block, each ending in a convolution, their sum, and 1x1 to 6."""
    net = Net()
    x = net.op("Relu", net.conv("x", 16, 8, k=1))
    a = net.op("Relu", net.conv(x, 16, 16, pads=[1] * 4, strides=[2, 2]))
    side = net.conv(x, 40, 16, k=1, strides=[2, 2])
    if relu:
        side = net.op("Relu", side)
    y = net.op("Relu", net.op("Add", net.conv(a, 40, 16, k=1), side))
    y = net.conv(y, 6, 40, k=1)
    outputs: dict[str, list[Any]] = {y: ["N", 6, "h", "w"]}
    if kept:
        outputs[side] = ["N", 40, "h", "w"]
    return net.model({"x": ["N", *SHAPE[1:]]}, outputs)


def same_everywhere(
    model: accel.Model, quantized: accel.Model, x: np.ndarray[Any, Any], folder: Path
) -> None:
    """Check values against fp32, and bits on every device and instruction set, and from a file."""
    program = accel.device("cpu").compile(quantized, 3, threads=2)
    got, want = program.run(x), accel.device("onnxruntime").compile(model, 3).run(x)
    assert np.linalg.norm(got - want) <= CLOSE * np.linalg.norm(want)
    for device, batch, threads in (("cpu", 1, 1), ("mkl", 3, 2), ("fpga", 2, 1)):
        other = accel.device(device).compile(quantized, batch, threads=threads).run(x)
        np.testing.assert_array_equal(other, got, err_msg=device)
    for isa in kernels.isas():
        with kernels.use_isa(isa):
            np.testing.assert_array_equal(accel.device("cpu").compile(quantized, 3).run(x), got)
    saved = accel.load_program(program.save(folder / "pair.lwprog"))
    np.testing.assert_array_equal(saved.run(x), got)


def test_shortcut_has_the_values_of_the_network_and_the_same_bits_everywhere(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    model = accel.load(projection())
    quantized = model.quantize()
    assert len(find_shortcuts(lower(quantized.with_shapes(1)))) == 1
    x = rng.standard_normal(SHAPE).astype(np.float32)
    same_everywhere(model, quantized, x, tmp_path)


@pytest.mark.parametrize("options", [{"kept": True}, {"relu": True}], ids=["output", "relu"])
def test_shortcut_is_none_where_its_values_are_wanted_or_changed(
    options: dict[str, bool], rng: np.random.Generator
) -> None:
    model = accel.load(projection(**options))
    assert not find_shortcuts(lower(model.quantize().with_shapes(1)))
    x = rng.standard_normal(SHAPE).astype(np.float32)
    got: Any = accel.device("cpu").compile(model.quantize(), 3).run(x)
    want: Any = accel.device("onnxruntime").compile(model, 3).run(x)
    pairs = [(got[n], want[n]) for n in want] if isinstance(want, dict) else [(got, want)]
    for a, b in pairs:
        assert np.linalg.norm(a - b) <= CLOSE * np.linalg.norm(b)


IMAGE = (3, 3, 31, 40)
SMALL = {"kernel_shape": [2, 2], "strides": [2, 2]}
LARGE = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}


def thinned(activation: str = "Relu", kept: bool = False, **changes: Any) -> bytes:
    """A first layer and 3x3, each with a maximum behind it; two branches joined, with one behind
    both; and 1x1 to 6. `kept`: what lies ahead of the second and the third is an output as well;
    `changes`: of those two maxima."""
    net = Net()
    x = net.op("Relu", net.conv("x", 16, 3, pads=[1] * 4))
    x = net.op("MaxPool", x, **LARGE)
    inner = net.op(activation, net.conv(x, 24, 16, pads=[1] * 4))
    x = net.op("MaxPool", inner, **{**SMALL, **changes})
    sides = [net.op(activation, net.conv(x, 16, 24, k=1)) for _ in range(2)]
    joined = net.op("Concat", *sides, axis=1)
    x = net.op("MaxPool", joined, **{**LARGE, **changes})
    y = net.conv(x, 6, 32, k=1)
    outputs: dict[str, list[Any]] = {y: ["N", 6, "h", "w"]}
    if kept:
        outputs |= {inner: ["N", 24, "a", "b"], sides[0]: ["N", 16, "c", "d"]}
    return net.model({"x": ["N", *IMAGE[1:]]}, outputs)


def pooled_of(data: bytes) -> int:
    return len(find_pooled(lower(accel.load(data).quantize().with_shapes(1))))


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "HardSwish"])
def test_pooled_has_the_values_of_the_network_and_the_same_bits_everywhere(
    activation: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    model = accel.load(thinned(activation))
    quantized = model.quantize()
    assert pooled_of(thinned(activation)) == 4
    x = rng.standard_normal(IMAGE).astype(np.float32)
    same_everywhere(model, quantized, x, tmp_path)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"kept": True}, 1),
        ({"strides": [1, 1]}, 1),
        ({"dilations": [2, 2]}, 1),
        ({"kernel_shape": [4, 4]}, 1),
    ],
    ids=["output", "stride", "dilation", "kernel"],
)
def test_pooled_is_none_where_the_value_is_wanted_or_the_kernel_unusual(
    options: dict[str, Any], left: int, rng: np.random.Generator
) -> None:
    data = thinned(**options)
    assert pooled_of(data) == left
    x = rng.standard_normal(IMAGE).astype(np.float32)
    got: Any = accel.device("cpu").compile(accel.load(data).quantize(), 3).run(x)
    want: Any = accel.device("onnxruntime").compile(accel.load(data), 3).run(x)
    pairs = [(got[n], want[n]) for n in want] if isinstance(want, dict) else [(got, want)]
    for a, b in pairs:
        assert np.linalg.norm(a - b) <= CLOSE * np.linalg.norm(b)


def test_pooled_shows_both_calls_with_the_time_at_the_convolution() -> None:
    program = accel.device("cpu").compile(accel.load(thinned()).quantize())
    rows = {row.node: row for row in program.profile(repeats=2).rows}
    pools = [row for row in rows.values() if row.op == "MaxPool"]
    assert len(pools) == 4
    for pool in pools:
        step = f"one step with {pool.node!r}"
        (conv,) = (row for row in rows.values() if row.note.startswith(step))
        assert pool.note == f"one step with {conv.node!r}" and conv.own
        assert conv.seconds and not pool.seconds


def test_pooled_is_no_value_between_its_calls() -> None:
    lives = [accel.device("cpu").compile(accel.load(thinned(kept=kept)).quantize()).lives()
             for kept in (False, True)]  # fmt: skip
    assert sum(life.nbytes for life in lives[0]) < sum(life.nbytes for life in lives[1])
