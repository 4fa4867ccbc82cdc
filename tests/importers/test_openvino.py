"""Each OpenVINO operator, lowered and run in ONNX Runtime, against OpenVINO itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

import accel
from accel.errors import ModelError, UnsupportedError
from accel.importers.openvino import lower_openvino
from accel.model import Model

Array = np.ndarray[Any, Any]


def model_of(build: Callable[[Any], Any], shape: list[int]) -> Any:
    x = ops.parameter(shape, np.float32, name="x")
    y = build(x)
    outputs = y if isinstance(y, list) else [y]
    return ov.Model([ops.result(o) for o in outputs], [x], "net")


def both(build: Callable[[Any], Any], x: Array, free: list[int] | None = None) -> None:
    """Check the lowered operators against OpenVINO; `free` gives the declared shape, -1 free."""
    model = model_of(build, free or list(x.shape))
    lowered = Model.from_graph(lower_openvino(model, "net"), "net")
    want = list(ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x]).values())
    program = accel.device("onnxruntime").compile(
        lowered, batch_size=len(x), shapes={"x": x.shape} if free else None
    )
    found = program.run(x)
    got = list(found.values()) if isinstance(found, dict) else [found]
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def c(values: Any, dtype: Any = np.int64) -> Any:
    return ops.constant(np.array(values, dtype))


def f(values: Any) -> Any:
    return c(values, np.float32)


rng = np.random.default_rng(0)
W, D = rng.standard_normal((6, 4, 3, 3)), rng.standard_normal((4, 2, 1, 3, 3))
T, G = rng.standard_normal((4, 6, 3, 3)), rng.standard_normal((2, 2, 3, 3, 3))
MASK = np.arange(7) < np.array([[3], [1], [7], [4], [7], [2], [6]])
M, PER = rng.standard_normal((6, 3)), rng.random(4) + 0.5


def with_constant(op: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    return lambda x: op(x, f(PER.reshape(1, 4, 1, 1)))


UNARY: dict[str, Callable[[Any], Any]] = {
    "abs": ops.abs, "ceiling": ops.ceiling, "cos": ops.cos, "erf": ops.erf, "exp": ops.exp,
    "floor": ops.floor, "hsigmoid": ops.hsigmoid, "hswish": ops.hswish, "mish": ops.mish,
    "mvn": lambda x: ops.mvn(x, c([-1]), True, 1e-3, "inside_sqrt"),
    "mvn of channels": lambda x: ops.mvn(x, c([1]), True, 1e-3, "inside_sqrt"),
    "mvn outside": lambda x: ops.mvn(x, c([1, 3]), True, 1e-3, "outside_sqrt"),
    "mvn centred": lambda x: ops.mvn(x, c([2, 3]), False, 1e-3, "inside_sqrt"),
    "negative": ops.negative, "relu": ops.relu, "sigmoid": ops.sigmoid, "sign": ops.sign,
    "sin": ops.sin, "softplus": ops.softplus, "tanh": ops.tanh,
    "clamp": lambda x: ops.clamp(x, -0.5, 1.0),
    "elu": lambda x: ops.elu(x, 0.7),
    "gelu": lambda x: ops.gelu(x, "ERF"),
    "hard sigmoid": lambda x: ops.hard_sigmoid(x, f(0.3), f(0.4)),
    "log sqrt": lambda x: ops.sqrt(ops.log(ops.add(ops.abs(x), f(1.5)))),
    "log softmax": lambda x: ops.log_softmax(x, 1),
    "softmax": lambda x: ops.softmax(x, -1),
    "swish": lambda x: ops.swish(x, f(1.3)),
    "prelu": lambda x: ops.prelu(x, f(PER)),
    "lrn": lambda x: ops.lrn(x, c([1]), 0.7, 0.6, 2.0, 3),
    "convert": lambda x: ops.convert(ops.convert(x, "i32"), "f32"),
    "batch norm": lambda x: ops.batch_norm_inference(x, f(PER), f(PER), f(PER), f(PER), 0.01),
    "fake quantize": lambda x: ops.fake_quantize(x, f(-1.0), f(1.5), f(-2.0), f(3.0), 16),
}  # fmt: skip

BINARY: dict[str, Callable[[Any], Any]] = {
    name: with_constant(op)
    for name, op in {
        "add": ops.add, "divide": ops.divide, "maximum": ops.maximum, "minimum": ops.minimum,
        "multiply": ops.multiply, "subtract": ops.subtract,
        "squared difference": ops.squared_difference,
        "power": lambda x, y: ops.power(ops.abs(x), y),
        "select": lambda x, y: ops.select(ops.greater(x, y), x, y),
        "select less": lambda x, y: ops.select(
            ops.logical_or(ops.less(x, y), ops.logical_not(ops.less_equal(x, y))), x, y),
        "select equal": lambda x, y: ops.select(
            ops.logical_and(ops.equal(x, x), ops.not_equal(x, y)), y, x),
    }.items()
}  # fmt: skip

SHAPES: dict[str, Callable[[Any], Any]] = {
    "reduce mean": lambda x: ops.reduce_mean(x, c([2, 3]), True),
    "reduce sum": lambda x: ops.reduce_sum(x, c([1]), False),
    "reduce max": lambda x: ops.reduce_max(x, c([-1]), True),
    "reduce min": lambda x: ops.reduce_min(x, c([1, 2]), False),
    "reduce prod": lambda x: ops.reduce_prod(x, c([1]), False),
    "reshape": lambda x: ops.reshape(x, c([0, -1]), True),
    "reshape by shape": lambda x: ops.reshape(
        x, ops.concat([ops.gather(ops.shape_of(x), c([0]), c(0)), c([-1])], 0), False),
    "transpose": lambda x: ops.transpose(x, c([0, 2, 3, 1])),
    "concat": lambda x: ops.concat([x, ops.relu(x)], 1),
    "split": lambda x: ops.split(x, c(1), 2).outputs(),
    "variadic split": lambda x: ops.variadic_split(x, c(1), c([1, -1])).outputs(),
    "strided slice": lambda x: ops.strided_slice(
        x, c([0, 1, 5, 0]), c([0, 3, 0, 9]), c([1, 1, -2, 3]), [1, 0, 0, 0], [1, 0, 1, 0]),
    "strided slice shrink": lambda x: ops.strided_slice(
        x, c([0, -1]), c([0, 0]), c([1, 1]), [1, 0], [1, 0], [], [0, 1]),
    "slice": lambda x: ops.slice(x, c([1, 5]), c([4, 0]), c([2, -1]), c([1, 2])),
    "slice whole": lambda x: ops.slice(x, c([0, 1, 0, 2]), c([9, 3, 9, 9]), c([1, 1, 2, 1])),
    "squeeze": lambda x: ops.squeeze(ops.unsqueeze(x, c([2])), c([2])),
    "gather": lambda x: ops.gather(x, c([2, 0]), c(1)),
    "gather one": lambda x: ops.gather(x, c(-1), c(1)),
    "shape of": lambda x: ops.convert(ops.shape_of(x, "i32"), "f32"),
    "pad": lambda x: ops.pad(x, c([0, 0, 1, 2]), c([0, 1, 0, 3]), "constant", f(0.5)),
    "pad reflect": lambda x: ops.pad(x, c([0, 0, 1, 2]), c([0, 0, 0, 3]), "reflect"),
    "broadcast": lambda x: ops.broadcast(ops.reduce_mean(x, c([3]), True), ops.shape_of(x)),
    "tile": lambda x: ops.tile(x, c([1, 1, 2, 1])),
    "depth to space": lambda x: ops.depth_to_space(x, "blocks_first", 2),
    "depth to space crd": lambda x: ops.depth_to_space(x, "depth_first", 2),
}  # fmt: skip

PRODUCTS: dict[str, Callable[[Any], Any]] = {
    "convolution": lambda x: ops.convolution(x, f(W), [2, 1], [1, 0], [0, 2], [1, 1]),
    "convolution dilated": lambda x: ops.convolution(x, f(W), [1, 1], [2, 2], [2, 2], [2, 2]),
    "convolution same": lambda x: ops.convolution(
        x, f(W), [2, 2], [0, 0], [0, 0], [1, 1], "same_upper"),
    "convolution half": lambda x: ops.convolution(
        x, ops.convert(ops.constant(W.astype(np.float16)), "f32"), [1, 1], [0, 0], [0, 0], [1, 1]),
    "convolution quantized": lambda x: ops.convolution(
        x, ops.fake_quantize(f(W), f(-2.0), f(2.0), f(-2.0), f(2.0), 255),
        [1, 1], [0, 0], [0, 0], [1, 1]),
    "group convolution": lambda x: ops.group_convolution(x, f(D), [1, 1], [1, 1], [1, 1], [1, 1]),
    "transposed": lambda x: ops.convolution_backprop_data(
        x, f(T), [2, 2], pads_begin=[1, 1], pads_end=[1, 1], output_padding=[1, 0]),
    "group transposed": lambda x: ops.group_convolution_backprop_data(x, f(G), [2, 2]),
    "matmul": lambda x: ops.matmul(x, f(M), False, False),
    "matmul transposed": lambda x: ops.matmul(x, f(M.T.copy()), False, True),
    "matmul of inputs": lambda x: ops.matmul(x, x, True, False),
    "attention": lambda x: ops.scaled_dot_product_attention(x, ops.sin(x), ops.cos(x)),
    "attention causal": lambda x: ops.scaled_dot_product_attention(x, x, x, causal=True),
    "attention masked": lambda x: ops.scaled_dot_product_attention(
        x, x, x, c(MASK, bool), f(0.5)),
    "attention biased": lambda x: ops.scaled_dot_product_attention(
        x, x, x, f(np.where(MASK, 0.3, -2.0))),
    "max pool": lambda x: ops.max_pool(
        x, [2, 1], [1, 1], [1, 0], [0, 1], [3, 2], "ceil", "explicit").outputs()[:1],
    "avg pool": lambda x: ops.avg_pool(x, [2, 2], [1, 1], [1, 1], [3, 3], True, "floor"),
    "avg pool counting": lambda x: ops.avg_pool(x, [1, 1], [1, 1], [1, 1], [3, 3], False, "floor"),
}  # fmt: skip

CASES = {**UNARY, **BINARY, **SHAPES, **PRODUCTS}


@pytest.mark.parametrize("name", CASES)
def test_operator_equals_openvino(name: str, rng: np.random.Generator) -> None:
    both(CASES[name], rng.standard_normal((2, 4, 7, 6)).astype(np.float32))


FREE = [
    "convolution same", "reduce mean", "reshape", "reshape by shape", "slice", "strided slice",
    "pad", "max pool", "add",
]  # fmt: skip


@pytest.mark.parametrize("name", FREE)
def test_operator_with_free_sizes_equals_openvino(name: str, rng: np.random.Generator) -> None:
    both(CASES[name], rng.standard_normal((2, 4, 7, 6)).astype(np.float32), free=[-1, 4, -1, -1])


@pytest.mark.parametrize("mode", ["nearest", "linear_onnx", "cubic"])
@pytest.mark.parametrize("way", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("sizes", [True, False])
def test_interpolate_equals_openvino(
    mode: str, way: str, sizes: bool, rng: np.random.Generator
) -> None:
    def enlarge(x: Any) -> Any:
        target = c([14, 9]) if sizes else f([2.0, 1.5])
        return ops.interpolate(
            x, target, mode, "sizes" if sizes else "scales", coordinate_transformation_mode=way,
            nearest_mode="round_prefer_floor", axes=c([2, 3]),
        )  # fmt: skip

    both(enlarge, rng.standard_normal((1, 4, 7, 6)).astype(np.float32))


def test_chain_behind_a_convolution_folds_into_it(rng: np.random.Generator) -> None:
    def chain(x: Any) -> Any:
        y = ops.convolution(x, f(W), [1, 1], [1, 1], [1, 1], [1, 1])
        for op, shape in ((ops.add, 6), (ops.multiply, 6), (ops.subtract, 6), (ops.multiply, 1)):
            y = op(y, f(np.random.default_rng(shape).random((1, shape, 1, 1))))
        return ops.relu(y)

    x = rng.standard_normal((2, 4, 7, 6)).astype(np.float32)
    both(chain, x)
    model = Model.from_graph(lower_openvino(model_of(chain, [2, 4, 7, 6]), "net"), "net")
    program = accel.device("cpu").compile(model.quantize(), strict=True)
    assert [row.op for row in program.explain().rows] == ["Conv+Relu"]


def test_eight_bit_activations_keep_their_bounds(rng: np.random.Generator) -> None:
    def chain(x: Any) -> Any:
        y = ops.fake_quantize(x, f(-2.0), f(2.0), f(-1.0), f(3.0), 256)
        y = ops.convolution(y, f(W), [1, 1], [1, 1], [1, 1], [1, 1])
        return ops.fake_quantize(y, f(0.0), f(4.0), f(0.0), f(4.0), 256)

    x = (2 * rng.standard_normal((2, 4, 7, 6))).astype(np.float32)
    model = Model.from_graph(lower_openvino(model_of(chain, list(x.shape)), "net"), "net")
    program = accel.device("cpu").compile(model.quantize())
    assert [r.op for r in program.explain().rows if r.macs] == ["Conv+Clip"]
    engine = ov.compile_model(model_of(chain, list(x.shape)), "CPU")
    (want,) = engine([x]).values()
    got = program.run(x)
    assert isinstance(got, np.ndarray)
    assert np.abs(got - want).mean() <= 0.02 * np.abs(want).mean()


def test_names_of_inputs_and_outputs_are_kept() -> None:
    x = ops.parameter([1, 4], np.float32)
    x.output(0).set_names({"image:0"})
    y = ops.relu(x)
    y.output(0).set_names({"scores"})
    model = Model.from_graph(lower_openvino(ov.Model([y], [x], "net"), "net"), "net")
    assert [s.name for s in (*model.inputs, *model.outputs)] == ["image:0", "scores"]


def test_unknown_operator_is_named() -> None:
    def unknown(x: Any) -> Any:
        y = ops.cum_sum(x, c(1))
        y.set_friendly_name("running")
        return y

    with pytest.raises(UnsupportedError, match="'running' has type 'CumSum'"):
        lower_openvino(model_of(unknown, [1, 4]), "net")


def test_network_without_output_is_refused() -> None:
    x = ops.parameter([1, 4], np.float32)
    with pytest.raises(ModelError, match="no outputs"):
        lower_openvino(ov.Model([], [x], "net"), "net")
