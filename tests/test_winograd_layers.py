"""Which convolutions get transformed weights, what those are, and that programs of them have the
same bits everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import Net

import accel
from accel import kernels
from accel.lower import lower
from accel.schedule import ProductCall
from accel.winograd import transform_weights

Array = np.ndarray[Any, Any]
Build = Callable[[Net], str]
PADS = [1] * 4
HALF = {"kernel_shape": [2, 2], "strides": [2, 2]}
CLOSE = 0.04  # to float32, relative
pytestmark = pytest.mark.usefixtures("small_layers_pay")
STEP = 0.01  # of transformed weights, relative


def usual(net: Net, x: str = "x", ic: int = 64, oc: int = 64, **options: Any) -> str:
    return net.conv(x, oc, ic, **{"pads": PADS, **options})


def chosen(build: Build, channels: int = 64, width: int = 9, **windows: int) -> list[bool]:
    """Which products of a network on an image of so many channels are transformed, in order."""
    net = Net()
    data = net.model({"x": [1, channels, 8, width]}, {build(net): [1, "c", "h", "w"]})
    calls = lower(accel.load(data).quantize(**windows).with_shapes(1)).calls
    return [call.winograd for call in calls if isinstance(call, ProductCall)]


@pytest.mark.parametrize("options", [{}, {"pads": [0] * 4}, {"pads": [1, 0, 0, 1]}, {"oc": 130}])
def test_layer_of_3x3_is_transformed(options: dict[str, Any]) -> None:
    assert chosen(lambda net: usual(net, **options)) == [True]


@pytest.mark.parametrize(
    "options",
    [
        {"strides": [2, 2]}, {"strides": [1, 2]}, {"pads": [2] * 4, "dilations": [2, 2]},
        {"oc": 128, "group": 2}, {"k": 1, "pads": [0] * 4}, {"k": 5, "pads": [2] * 4}, {"oc": 63},
    ],
    ids=str,
)  # fmt: skip
def test_other_layers_are_not(options: dict[str, Any]) -> None:
    assert chosen(lambda net: usual(net, **options)) == [False]


@pytest.mark.parametrize(
    ("channels", "windows", "expected"),
    [
        (32, {}, True), (31, {}, False), (16, {}, False),
        (64, {"window": 32}, True), (96, {"window": 96}, True), (96, {"window": 48}, False),
        (96, {"window": 64}, False), (64, {"window": 16}, False), (256, {"window": 256}, True),
        (512, {"window": 512}, False), (64, {"weight_window": 64}, False),
    ],
)  # fmt: skip
def test_channels_and_windows_decide(
    channels: int, windows: dict[str, int], expected: bool
) -> None:
    assert chosen(lambda net: usual(net, ic=channels), channels, **windows) == [expected]


@pytest.mark.parametrize(("height", "expected"), [(8, [True]), (7, [False])])
def test_multiplications_of_an_image_decide(
    height: int, expected: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accel.lower.winograd.LEAST_MACS", 8 * 8 * 9 * 64 * 64)
    net = Net()
    data = net.model({"x": ["n", 64, height, 8]}, {usual(net): ["n", "c", "h", "w"]})
    for batch in (1, 3):
        calls = lower(accel.load(data).quantize().with_shapes(batch)).calls
        assert [c.winograd for c in calls if isinstance(c, ProductCall)] == expected


def test_one_column_is_not_transformed() -> None:
    assert chosen(usual, width=1) == [False]
    assert chosen(lambda net: usual(net, pads=[1, 0, 1, 0]), width=3) == [False]


def behind(activation: str) -> Build:
    return lambda net: usual(net, net.op(activation, net.conv("x", 64, 64, k=1)))


def clipped(net: Net, x: str, low: float) -> str:
    bounds = [net.constant(name, np.float32(v)) for name, v in (("low", low), ("high", 6))]
    return net.op("Clip", x, *bounds)


def thinned(net: Net, low: float | None = None, activation: str = "Relu", **pool: Any) -> str:
    x = usual(net)
    x = net.op(activation, x) if low is None else clipped(net, x, low)
    return net.op("MaxPool", x, **{**HALF, **pool})


def depthwise(net: Net) -> str:
    return net.conv(net.op("Relu", usual(net)), 64, 64, group=64, pads=PADS)


def shortcut(net: Net) -> str:
    x = net.op("Relu", net.conv("x", 64, 64, k=1))
    return net.op("Relu", net.op("Add", usual(net, x), net.conv(x, 64, 64, k=1)))


def residual(net: Net) -> str:
    x = net.op("Relu", net.conv("x", 64, 64, k=1))
    return net.op("Relu", net.op("Add", usual(net, x), x))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (behind("Relu"), [False, True]),
        (behind("LeakyRelu"), [False, False]),  # skewed windows
        (residual, [False, True]),
        (shortcut, [False, False, False]),
        (depthwise, [False, False]),
        (thinned, [True]),
        (lambda net: thinned(net, ceil_mode=1), [True]),
        (lambda net: thinned(net, low=0), [True]),
        (lambda net: thinned(net, low=-1), [False]),
        (lambda net: thinned(net, activation="LeakyRelu"), [False]),
        (lambda net: thinned(net, activation="HardSwish"), [False]),
        (lambda net: thinned(net, kernel_shape=[3, 3]), [False]),
        (lambda net: thinned(net, kernel_shape=[3, 2]), [False]),
        (lambda net: thinned(net, pads=PADS), [False]),
        (lambda net: thinned(net, strides=[1, 1]), [True]),  # a step of its own
    ],
)
def test_neighbours_decide(build: Build, expected: list[bool]) -> None:
    assert chosen(build) == expected


@pytest.mark.parametrize(("oc", "ic"), [(1, 1), (7, 33), (64, 96)])
def test_transformed_weights_are_those_of_lines(oc: int, ic: int, rng: np.random.Generator) -> None:
    qw = rng.integers(-127, 128, (oc, 3, 3, ic)).astype(np.int8)
    scale = rng.random(oc, np.float32)
    q, unit = transform_weights(qw, scale)
    assert (q.shape, q.dtype, unit.shape, unit.dtype) == ((4, oc, 3, ic), "int8", (4, oc), "f4")
    assert q.flags.c_contiguous and q.min() >= -127
    g = [x.astype(np.float64) for x in qw.transpose(1, 0, 2, 3)]
    np.testing.assert_array_equal(q[0], g[0])
    np.testing.assert_array_equal(q[3], -g[2])
    assert unit[0].tobytes() == unit[3].tobytes() == scale.tobytes()
    for line, exact in ((1, (g[0] + g[1] + g[2]) / 2), (2, (g[0] - g[1] + g[2]) / 2)):
        step = unit[line].astype(np.float64)[:, None, None]
        error = q[line] * step - exact * scale[:, None, None]
        assert np.all((np.abs(error) <= step) | (np.abs(q[line]) == 127))
        assert np.linalg.norm(error) <= STEP * np.linalg.norm(exact * scale[:, None, None])


@pytest.mark.parametrize("level", [-127, 0, 127])
def test_largest_weights_and_zeros_fit(level: int) -> None:
    q, unit = transform_weights(np.full((2, 3, 3, 5), level, np.int8), np.ones(2, np.float32))
    want = np.array([level, 1.5 * level, 0.5 * level, -level])[:, None, None, None]
    np.testing.assert_allclose(q * unit[..., None, None], np.broadcast_to(want, q.shape), rtol=0.01)


def network() -> bytes:
    """Layers with a residual, a maximum, rows and columns that are odd, and two blocks."""
    net = Net()
    x = net.op("Relu", net.conv("x", 64, 3, pads=PADS))
    a = net.op("Relu", usual(net, x))
    x = net.op("Relu", net.op("Add", usual(net, a), x))
    x = net.op("MaxPool", net.op("Relu", usual(net, x, oc=128)), **HALF, ceil_mode=1)
    y = net.op("GlobalAveragePool", net.op("HardSwish", usual(net, x, 128, 150)))
    return net.model({"x": ["N", 3, 13, 15]}, {y: ["N", 150, 1, 1]})


def test_program_has_the_same_bits_everywhere(rng: np.random.Generator, tmp_path: Path) -> None:
    model = accel.load(network())
    quantized, x = model.quantize(), rng.standard_normal((4, 3, 13, 15)).astype(np.float32)
    program = accel.device("cpu").compile(quantized, 4, threads=2)
    got, want = program.run(x), accel.device("onnxruntime").compile(model, 4).run(x)
    assert np.linalg.norm(got - want) <= CLOSE * np.linalg.norm(want)
    for device, batch, threads in (("cpu", 1, 1), ("cpu", 3, 3), ("mkl", 4, 2), ("fpga", 2, 1)):
        other = accel.device(device).compile(quantized, batch, threads=threads).run(x)
        np.testing.assert_array_equal(other, got, err_msg=f"{device} {batch}")
    for isa in kernels.isas():
        with kernels.use_isa(isa):
            np.testing.assert_array_equal(accel.device("cpu").compile(quantized, 4).run(x), got)
    saved = accel.load_program(program.save(tmp_path / "lines.lwprog"))
    np.testing.assert_array_equal(saved.run(x), got)


def test_direct_sums_can_be_asked_for(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized = accel.load(network()).quantize()
    x = rng.standard_normal((3, *quantized.inputs[0].shape[1:])).astype(np.float32)  # type: ignore[arg-type]
    usual = accel.device("cpu").compile(quantized).run(x)
    monkeypatch.setattr("accel.lower.winograd.LEAST_MACS", 1 << 40)
    want = accel.device("cpu").compile(quantized).run(x)
    monkeypatch.undo()
    assert not np.array_equal(want, usual)
    for name in ("cpu", "mkl", "fpga"):
        program = accel.device(name).compile(quantized, winograd=False)
        np.testing.assert_array_equal(program.run(x), want)


def test_explanation_names_the_layers() -> None:
    rows = accel.device("cpu").compile(accel.load(network()).quantize()).explain().rows
    notes = [row.note for row in rows if row.op.startswith("Conv")]
    assert ["Winograd" in note for note in notes] == [False, True, True, True, True]
