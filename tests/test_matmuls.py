"""Lowering of products of two activations: what is folded in, and what is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net
from test_lower import check_values, schedule

import accel
from accel.errors import AccelError
from accel.schedule import HostGroup, MatMulCall

Array = np.ndarray[Any, Any]


def matmuls(data: bytes) -> list[MatMulCall]:
    return [c for c in schedule(data, 2).calls if isinstance(c, MatMulCall)]


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def scalar(net: Net, value: float) -> str:
    return net.constant(f"s{len(net.weights)}", np.float32(value))


@pytest.mark.parametrize("x_perm", [(0, 1, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2), (0, 3, 1, 2)])
@pytest.mark.parametrize("other_perm", [(0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 2, 1)])
@pytest.mark.parametrize("y_perm", [(0, 1, 2, 3), (0, 2, 1, 3)])
def test_transpositions_are_folded_in(
    x_perm: tuple[int, ...],
    other_perm: tuple[int, ...],
    y_perm: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    net = Net()
    product = net.op(
        "MatMul",
        net.op("Transpose", "x", perm=x_perm),
        net.op("Transpose", "other", perm=other_perm),
    )
    y = net.op("Transpose", product, perm=y_perm)
    before = {}
    for name, perm, shape in (("x", x_perm, (2, 3, 9, 34)), ("other", other_perm, (2, 3, 34, 20))):
        before[name] = tuple(shape[i] for i in np.argsort(perm))
    final = [(2, 3, 9, 20)[i] for i in y_perm]
    data = net.model({n: ["N", *s[1:]] for n, s in before.items()}, {y: ["N", *final[1:]]})
    (call,) = schedule(data, 2).calls
    assert isinstance(call, MatMulCall) and call.op == "Transpose+Transpose+MatMul+Transpose"
    check_values(data, {name: normal(rng, *shape) for name, shape in before.items()})


def test_constant_factors_are_folded_in(rng: np.random.Generator) -> None:
    net = Net()
    half = net.op("Mul", scalar(net, 0.5), "x")
    product = net.op("MatMul", half, net.op("Div", "other", scalar(net, 4)))
    y = net.op("Div", net.op("Mul", product, scalar(net, -3)), scalar(net, 2))
    data = net.model({"x": ["N", 9, 34], "other": ["N", 34, 20]}, {y: ["N", 9, 20]})
    (call,) = schedule(data, 2).calls
    assert isinstance(call, MatMulCall) and call.scale == 0.5 / 4 * -3 / 2
    check_values(data, {"x": normal(rng, 2, 9, 34), "other": normal(rng, 2, 34, 20)})


@pytest.mark.parametrize(("x", "other", "y"), [
    ((4, 3, 9, 34), (34, 20), (4, 3, 9, 20)),
    ((4, 9, 34), (5, 1, 34, 20), (5, 4, 9, 20)),
    ((4, 1, 9, 34), (1, 3, 34, 20), (4, 3, 9, 20)),
    ((9, 34), (34, 1), (9, 1)),
])  # fmt: skip
def test_leading_axes_broadcast(
    x: tuple[int, ...], other: tuple[int, ...], y: tuple[int, ...], rng: np.random.Generator
) -> None:
    net = Net()
    out = net.op("MatMul", "x", "other")
    data = net.model({"x": list(x), "other": list(other)}, {out: list(y)})
    model, inputs = accel.load(data), {"x": normal(rng, *x), "other": normal(rng, *other)}
    program = accel.device("cpu").compile(model.quantize())
    found, want = program._execute(inputs)[out], inputs["x"] @ inputs["other"]
    assert np.linalg.norm(found - want) <= 0.02 * np.linalg.norm(want)
    assert program.explain().share == 1.0


@pytest.mark.parametrize("trans", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_gemm_of_two_activations_runs_on_our_kernels(
    trans: tuple[int, int], rng: np.random.Generator
) -> None:
    net = Net()
    y = net.op("Gemm", "x", "other", transA=trans[0], transB=trans[1], alpha=0.5)
    x, other = (34, 9) if trans[0] else (9, 34), (20, 34) if trans[1] else (34, 20)
    data = net.model({"x": list(x), "other": list(other)}, {y: [9, 20]})
    program = accel.device("cpu").compile(accel.load(data).quantize())
    inputs = {"x": normal(rng, *x), "other": normal(rng, *other)}
    a, b = (v.T if t else v for v, t in zip(inputs.values(), trans, strict=True))
    found = program._execute(inputs)[y]
    assert np.linalg.norm(found - a @ b / 2) <= 0.02 * np.linalg.norm(a @ b / 2)
    assert program.explain().share == 1.0


def test_values_that_others_read_stay(rng: np.random.Generator) -> None:
    """A folded transposition is computed too where its value is wanted, a scaled product is not
    folded where the product is."""
    net = Net()
    turned = net.op("Transpose", "other", perm=[0, 2, 1])
    product = net.op("MatMul", "x", turned)
    scaled = net.op("Mul", product, scalar(net, 3))
    data = net.model(
        {"x": ["N", 9, 34], "other": ["N", 20, 34]},
        {turned: ["N", 34, 20], product: ["N", 9, 20], scaled: ["N", 9, 20]},
    )
    (call,) = matmuls(data)
    assert call.scale == 1.0 and call.y == product and call.other == "other"
    check_values(data, {"x": normal(rng, 2, 9, 34), "other": normal(rng, 2, 20, 34)})


def test_softmax_needs_no_sign(rng: np.random.Generator) -> None:
    net = Net()
    shares = net.op("Transpose", net.op("Softmax", "x", axis=-1), perm=[0, 2, 1])
    y = net.op("MatMul", shares, "other")
    data = net.model({"x": ["N", 40, 9], "other": ["N", 40, 20]}, {y: ["N", 9, 20]})
    (call,) = matmuls(data)
    assert not call.signed and not call.softmax  # its rows are not those of the product
    check_values(data, {"x": normal(rng, 2, 40, 9), "other": normal(rng, 2, 40, 20)})


@pytest.mark.parametrize("mask", [None, (2, 1, 1, 40), (2, 3, 9, 40), (9, 40)])
def test_softmax_and_mask_are_folded_in(mask: Any, rng: np.random.Generator) -> None:
    net = Net()
    scores = "x" if mask is None else net.op("Add", net.op("Neg", "mask"), "x")
    y = net.op("MatMul", net.op("Softmax", scores, axis=3), "other")
    inputs = {"x": normal(rng, 2, 3, 9, 40), "other": normal(rng, 2, 3, 40, 20)}
    if mask is not None:
        inputs["mask"] = 100.0 * (rng.random(mask) < 0.3).astype(np.float32)
    data = net.model({n: list(v.shape) for n, v in inputs.items()}, {y: [2, 3, 9, 20]})
    (call,) = matmuls(data)
    assert call.softmax and (call.mask is None) == (mask is None)
    assert "x" in (call.x, call.mask)
    program = accel.device("cpu").compile(accel.load(data).quantize())
    want = accel.device("onnxruntime").compile(accel.load(data))._execute(inputs)[y]
    assert np.linalg.norm(program._execute(inputs)[y] - want) <= 0.02 * np.linalg.norm(want)


@pytest.mark.parametrize("name", ["read", "constant", "axis"])
def test_other_softmaxes_stay(name: str, rng: np.random.Generator) -> None:
    net = Net()
    scores = "x"
    if name == "constant":
        scores = net.op("Add", "x", net.constant("mask", normal(rng, 9, 40)))
    shares = net.op("Softmax", scores, axis=1 if name == "axis" else -1)
    y = net.op("MatMul", shares, "other")
    outputs = {y: ["N", 9, 20]} | ({shares: ["N", 9, 40]} if name == "read" else {})
    data = net.model({"x": ["N", 9, 40], "other": ["N", 40, 20]}, outputs)
    (call,) = matmuls(data)
    assert call.softmax == (name == "constant") and call.mask is None
    check_values(data, {"x": normal(rng, 2, 9, 40), "other": normal(rng, 2, 40, 20)})


def test_product_of_a_convolution_with_itself(rng: np.random.Generator) -> None:
    """As non-local blocks and style losses have it: values that our kernels made, channels last."""
    net = Net()
    x = net.op("Relu", net.conv("image", 24, 5, pads=[1] * 4))
    flat = net.op("Reshape", x, net.constant("shape", np.array([0, 24, 70], np.int64)))
    y = net.op("MatMul", flat, net.op("Transpose", flat, perm=[0, 2, 1]))
    data = net.model({"image": ["N", 5, 7, 10]}, {y: ["N", 24, 24]})
    assert not any(isinstance(c, HostGroup) for c in schedule(data, 2).calls)
    check_values(data, {"image": normal(rng, 2, 5, 7, 10)})


@pytest.mark.parametrize("name", ["short", "integers", "vector", "added"])
def test_other_products_stay_in_onnxruntime(name: str) -> None:
    net = Net()
    shapes: dict[str, tuple[list[Any], list[Any], list[Any]]] = {
        "short": ([2, 9, 4], [2, 4, 20], [2, 9, 20]),
        "integers": ([2, 9, 34], [2, 34, 20], [2, 9, 20]),
        "vector": ([2, 9, 34], [34], [2, 9]),
        "added": ([9, 34], [34, 20], [9, 20]),
    }
    x, other, y = shapes[name]
    if name == "added":
        out = net.op("Gemm", "x", "other", "third")
        data = net.model({"x": x, "other": other, "third": [9, 20]}, {out: y})
    elif name == "integers":
        wide = [net.op("Cast", v, to=7) for v in ("x", "other")]
        out = net.op("Cast", net.op("MatMul", *wide), to=1)
        data = net.model({"x": x, "other": other}, {out: y})
    else:
        out = net.op("MatMul", "x", "other")
        data = net.model({"x": x, "other": other}, {out: y})
    assert not matmuls(data)


def test_window_of_the_products_is_the_one_asked_for() -> None:
    net = Net()
    y = net.op("MatMul", "x", "other")
    data = net.model({"x": ["N", 9, 340], "other": ["N", 340, 20]}, {y: ["N", 9, 20]})
    model = accel.load(data).quantize(window=48)
    assert set(model.windows.values()) == {48}
    (row,) = accel.device("cpu").compile(model).explain().rows
    assert row.window == 48


def test_infinite_score_is_an_error_that_says_so(rng: np.random.Generator) -> None:
    net = Net()
    y = net.op("MatMul", net.op("Exp", "x"), "other")
    data = net.model({"x": ["N", 9, 34], "other": ["N", 34, 20]}, {y: ["N", 9, 20]})
    program = accel.device("cpu").compile(accel.load(data).quantize())
    with pytest.raises(AccelError, match="NaN or infinity"):
        program.run({"x": np.full((1, 9, 34), 1e3, np.float32), "other": normal(rng, 1, 34, 20)})
