"""Lowering and plans: which node runs where, and that odd shapes and layouts give right values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import FLOAT, Net
from onnx import TensorProto, helper

import accel
from accel.errors import ModelError
from accel.lower import lower
from accel.readers import Readers
from accel.schedule import HostGroup, LinearCall, NearestCall, ProductCall, SampleCall, Schedule

Array = np.ndarray[Any, Any]
CLOSE = 0.02  # relative norm of the int8 error on seeded normal data


def schedule(data: bytes, batch: int = 1) -> Schedule:
    return lower(accel.load(data).quantize().with_shapes(batch))


def kernel_calls(data: bytes) -> list[ProductCall]:
    return [c for c in schedule(data).calls if isinstance(c, ProductCall)]


def check_values(data: bytes, inputs: dict[str, Array], share: float = 1.0) -> None:
    model = accel.load(data)
    rows = len(next(iter(inputs.values())))
    program = accel.device("cpu").compile(model.quantize(), batch_size=rows)
    expected: Any = accel.device("onnxruntime").compile(model, batch_size=rows).run(inputs)
    got: Any = program.run(inputs)
    if not isinstance(expected, dict):
        expected, got = {"y": expected}, {"y": got}
    for name, want in expected.items():
        assert got[name].shape == want.shape
        assert np.linalg.norm(got[name] - want) <= CLOSE * np.linalg.norm(want)
    assert program.explain().share >= share


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_auto_pad_is_resolved_as_the_standard_says(
    auto_pad: str, stride: int, rng: np.random.Generator
) -> None:
    net = Net()
    y = net.conv("x", 6, 5, k=4, auto_pad=auto_pad, strides=[stride, stride])
    data = net.model({"x": ["N", 5, 11, 10]}, {y: ["N", 6, "h", "w"]})
    check_values(data, {"x": rng.standard_normal((2, 5, 11, 10)).astype(np.float32)})


def test_uneven_pads_strides_and_dilations(rng: np.random.Generator) -> None:
    net = Net()
    y = net.conv("x", 7, 9, k=3, pads=[0, 2, 1, 3], strides=[1, 2], dilations=[2, 1])
    data = net.model({"x": ["N", 9, 12, 9]}, {y: ["N", 7, "h", "w"]})
    check_values(data, {"x": rng.standard_normal((3, 9, 12, 9)).astype(np.float32)})


def test_one_dimensional_convolution_runs_on_our_kernels(rng: np.random.Generator) -> None:
    net = Net()
    w = net.constant("w", rng.standard_normal((8, 6, 5)).astype(np.float32))
    y = net.op("Relu", net.op("Conv", "x", w, pads=[2, 1], strides=[2], dilations=[1]))
    data = net.model({"x": ["N", 6, 40]}, {y: ["N", 8, "l"]})
    check_values(data, {"x": rng.standard_normal((2, 6, 40)).astype(np.float32)})


@pytest.mark.parametrize("shape", [("N", 12), ("N", 5, 12), ("N", 2, 3, 12)])
def test_matmul_of_any_rank_runs_on_our_kernels(
    shape: tuple[Any, ...], rng: np.random.Generator
) -> None:
    net = Net()
    w = net.constant("w", rng.standard_normal((12, 7)).astype(np.float32))
    b = net.constant("b", rng.standard_normal(7).astype(np.float32))
    y = net.op("Relu", net.op("Add", net.op("MatMul", "x", w), b))
    data = net.model({"x": list(shape)}, {y: [*shape[:-1], 7]})
    (call,) = kernel_calls(data)
    assert call.op == "MatMul+Add+Relu" and call.bias is not None
    check_values(data, {"x": rng.standard_normal((3, *shape[1:])).astype(np.float32)})


@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm_factors_are_absorbed(trans_b: int, rng: np.random.Generator) -> None:
    net = Net()
    w = net.constant("w", rng.standard_normal((9, 20) if trans_b else (20, 9)).astype(np.float32))
    c = net.constant("c", rng.standard_normal((1, 9)).astype(np.float32))
    y = net.op("Gemm", "x", w, c, alpha=0.5, beta=2.0, transB=trans_b)
    data = net.model({"x": ["N", 20]}, {y: ["N", 9]})
    check_values(data, {"x": rng.standard_normal((4, 20)).astype(np.float32)})


def test_residual_is_fused_into_the_later_convolution(rng: np.random.Generator) -> None:
    net = Net()
    a = net.conv("x", 8, 8, pads=[1] * 4)
    b = net.conv(net.op("Relu", a), 8, 8, pads=[1] * 4)
    y = net.op("Clip", net.op("Add", a, b), net.constant("lo", np.float32(0)),
               net.constant("hi", np.float32(6)))  # fmt: skip
    data = net.model({"x": ["N", 8, 6, 6]}, {y: ["N", 8, 6, 6]})
    calls = kernel_calls(data)
    assert [c.op for c in calls] == ["Conv", "Conv+Add+Clip"]
    assert calls[1].epilogue.residual == calls[0].y
    assert (calls[1].epilogue.lo, calls[1].epilogue.hi) == (0.0, 6.0)
    check_values(data, {"x": rng.standard_normal((2, 8, 6, 6)).astype(np.float32)})


def test_addition_that_broadcasts_is_not_fused(rng: np.random.Generator) -> None:
    net = Net()
    a = net.conv("x", 8, 8, pads=[1] * 4)
    y = net.op("Add", a, net.op("GlobalAveragePool", "x"))
    data = net.model({"x": ["N", 8, 6, 6]}, {y: ["N", 8, 6, 6]})
    assert [c.op for c in kernel_calls(data)] == ["Conv"]
    check_values(data, {"x": rng.standard_normal((2, 8, 6, 6)).astype(np.float32)})


def test_value_with_several_readers_is_kept_for_all(rng: np.random.Generator) -> None:
    net = Net()
    a = net.op("Relu", net.conv("x", 40, 8, pads=[1] * 4))
    b = net.conv(a, 8, 40, k=1)
    c = net.conv(a, 8, 40, k=5, pads=[2] * 4)
    d = net.op("Add", b, c)
    data = net.model({"x": ["N", 8, 6, 7]}, {a: ["N", 40, 6, 7], d: ["N", 8, 6, 7]})
    check_values(data, {"x": rng.standard_normal((2, 8, 6, 7)).astype(np.float32)})


def test_image_read_as_matrix_and_matrix_read_as_image(rng: np.random.Generator) -> None:
    net = Net()
    a = net.conv("x", 6, 5, pads=[1] * 4)
    w = net.constant("w", rng.standard_normal((8, 8)).astype(np.float32))
    b = net.op("MatMul", a, w)
    c = net.conv(b, 4, 6, pads=[1] * 4)
    data = net.model({"x": ["N", 5, 9, 8]}, {c: ["N", 4, 9, 8]})
    check_values(data, {"x": rng.standard_normal((2, 5, 9, 8)).astype(np.float32)})


def test_subgraph_that_captures_outer_values_runs_on_the_host(rng: np.random.Generator) -> None:
    net = Net()
    a = net.conv("x", 4, 3, k=1)
    info = helper.make_tensor_value_info("branch", FLOAT, None)
    then = helper.make_graph([helper.make_node("Neg", [a], ["branch"])], "then", [], [info])
    other = helper.make_graph([helper.make_node("Identity", [a], ["branch"])], "else", [], [info])
    flag = net.constant("flag", np.array(True))
    y = net.op("If", flag, then_branch=then, else_branch=other)
    data = net.model({"x": ["N", 3, 4, 4]}, {y: ["N", 4, 4, 4]})
    check_values(data, {"x": rng.standard_normal((2, 3, 4, 4)).astype(np.float32)})


def test_host_nodes_are_grouped_between_kernel_calls() -> None:
    net = Net()
    a = net.op("Tanh", net.op("Sin", "x"))
    b = net.op("Cos", net.op("Tanh", net.conv(a, 4, 3)))
    data = net.model({"x": ["N", 3, 8, 8]}, {b: ["N", 4, 6, 6]})
    kinds = [type(c) for c in schedule(data).calls]
    assert kinds == [HostGroup, ProductCall, HostGroup]


def test_constant_and_input_outputs_are_returned(rng: np.random.Generator) -> None:
    net = Net()
    kept = net.constant("kept", np.arange(4, dtype=np.float32))
    y = net.op("Relu", "x")
    data = net.model({"x": ["N", 4]}, {y: ["N", 4], kept: [4]})
    program = accel.device("cpu").compile(accel.load(data).quantize(), batch_size=2)
    found: Any = program.run(rng.standard_normal((2, 4)).astype(np.float32))
    np.testing.assert_array_equal(found["kept"], np.arange(4, dtype=np.float32))


def test_integer_values_cross_the_host_groups(rng: np.random.Generator) -> None:
    net = Net()
    a = net.conv("x", 4, 3, k=1)
    shape = net.op("Shape", a)
    y = net.op("Reshape", net.op("Relu", net.conv(a, 4, 4, k=1)), shape)
    data = net.model({"x": ["N", 3, 4, 4]}, {y: ["N", 4, 4, 4]})
    check_values(data, {"x": rng.standard_normal((2, 3, 4, 4)).astype(np.float32)})


def test_output_of_unknown_length_is_returned(rng: np.random.Generator) -> None:
    net = Net()
    y = net.op("NonZero", net.op("Relu", net.conv("x", 2, 3, k=1)))
    data = net.model({"x": [1, 3, 4, 4]}, {})
    model = accel.load(with_output(data, y, [4, "found"])).quantize()
    found: Any = (
        accel.device("cpu").compile(model).run(rng.standard_normal((1, 3, 4, 4)).astype(np.float32))
    )
    assert found.shape[0] == 4 and found.dtype == np.int64


def with_output(data: bytes, name: str, shape: list[Any]) -> bytes:
    from onnx import load_from_string

    proto = load_from_string(data)
    info = helper.make_tensor_value_info(name, TensorProto.INT64, shape)
    proto.graph.output.append(info)
    return bytes(proto.SerializeToString())


def test_shapes_that_contradict_the_graph_are_a_model_error() -> None:
    net = Net()
    y = net.conv("x", 4, 3)
    model = accel.load(net.model({"x": ["N", 3, "H", "W"]}, {y: ["N", 4, "h", "w"]})).quantize()
    with pytest.raises(ModelError, match=r"gives \(1, 5, 8, 8\) .* expected \('any', 3"):
        accel.device("cpu").compile(model, shapes={"x": (1, 5, 8, 8)})
    with pytest.raises(ModelError, match="shapes names"):
        accel.device("cpu").compile(model, shapes={"z": (1, 3, 8, 8)})
    with pytest.raises(ModelError, match="do not fit together"):
        accel.device("cpu").compile(model, shapes={"x": (1, 3, 1, 1)})


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps", "pads", "own"),
    [
        ([0, 0], [2**31, 2**31], [2, 3], [2, 2], [0, 4, 0, 0, 0, 4, 0, 0], True),
        ([1, -5], [9, 2**31], [2, -1], [3, 1], [0, 0, 0, 0, 0, 3, 0, 0], True),
        ([2], [8], [3], [2], None, True),
        ([0, 0], [2**31, 2**31], [2, 3], [2, 2], [0, 1, 1, 0, 0, 1, 0, 0], True),
        ([-1], [-12], [2], [-1], None, False),
        ([0], [4], [1], [1], None, False),
    ],
)
def test_strided_shortcuts_with_new_channels(
    starts: list[int], ends: list[int], axes: list[int], steps: list[int],
    pads: list[int] | None, own: bool, rng: np.random.Generator,
) -> None:  # fmt: skip
    net = Net()
    x = net.op("Relu", net.conv("x", 8, 3, pads=[1] * 4))
    given = [net.constant(f"s{i}", np.array(v, np.int64))
             for i, v in enumerate((starts, ends, axes, steps))]  # fmt: skip
    y = net.op("Slice", x, *given)
    if pads is not None:
        y = net.op("Pad", y, net.constant("pads", np.array(pads, np.int64)))
    channels = 4 if axes == [1] else 8 if pads is None else 8 + pads[1] + pads[5]
    z = net.conv(y, 5, channels, k=1)
    data = net.model({"x": ["N", 3, 12, 10]}, {z: ["N", 5, "h", "w"]})
    found = [c for c in schedule(data).calls if isinstance(c, SampleCall)]
    assert bool(found) == own
    check_values(data, {"x": rng.standard_normal((2, 3, 12, 10)).astype(np.float32)})


@pytest.mark.parametrize(("size", "as_windows"), [(8, False), (40, True)])
def test_large_residuals_stay_in_windows(
    size: int, as_windows: bool, rng: np.random.Generator
) -> None:
    net = Net()
    x = net.op("Relu", net.conv("x", 48, 3, pads=[1] * 4))
    for _ in range(2):
        y = net.op("Relu", net.conv(x, 48, 48, pads=[1] * 4))
        x = net.op("Relu", net.op("Add", net.conv(y, 48, 48, k=1), x))
    z = net.conv(x, 5, 48, k=1)
    data = net.model({"x": ["N", 3, size, size]}, {z: ["N", 5, size, size]})
    found = Readers(schedule(data))
    residuals = [c.epilogue.residual for c in kernel_calls(data) if c.epilogue.residual]
    assert len(residuals) == 2
    for name in residuals:
        assert (found.residual(name) is not None) == as_windows == (name not in found.floats)
    images = rng.standard_normal((3, 3, size, size)).astype(np.float32)
    check_values(data, {"x": images})
    model = accel.load(data).quantize()
    whole, *single = (accel.device("cpu").compile(model, batch_size=b) for b in (3, 1))
    np.testing.assert_array_equal(whole.run(images), single[0].run(images))


@pytest.mark.parametrize(("size", "as_windows"), [(8, False), (40, True)])
@pytest.mark.parametrize("average", [False, True])
def test_maxima_of_large_images_are_taken_from_windows(
    size: int, as_windows: bool, average: bool, rng: np.random.Generator
) -> None:
    net = Net()
    x = net.op("Relu", net.conv("x", 48, 3, pads=[1] * 4, group=3))
    kind = "AveragePool" if average else "MaxPool"
    y = net.op(kind, x, kernel_shape=[2, 2], strides=[2, 2])
    z = net.conv(y, 5, 48, k=1)
    data = net.model({"x": ["N", 3, size, size]}, {z: ["N", 5, size // 2, size // 2]})
    found = Readers(schedule(data))
    pooled = found.pool(x)
    assert (pooled is not None) == (as_windows and not average) == (x not in found.floats)
    images = rng.standard_normal((2, 3, size, size)).astype(np.float32)
    check_values(data, {"x": images})
    program = accel.device("cpu").compile(accel.load(data).quantize())
    row = next(r for r in program.explain().rows if r.op == kind)
    assert (row.kernel == "windows") == (pooled is not None)


def test_chain_of_image_operators_stays_on_our_kernels(rng: np.random.Generator) -> None:
    """Nested concatenations whose parts have other readers, pools with every kind of padding."""
    net = Net()
    a = net.op("Relu", net.conv("x", 8, 3, pads=[1] * 4))
    b = net.op("MaxPool", a, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c = net.op("AveragePool", a, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    d = net.op("Concat", b, c, axis=1)
    e = net.conv(d, 24, 16, k=1)
    f = net.op("AveragePool", e, kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1)
    h = net.op("Concat", f, d, e, d, axis=1)
    i = net.op("Relu", net.conv(h, 12, 80))
    j = net.op("GlobalMaxPool", i)
    k = net.op("Flatten", net.op("GlobalAveragePool", i))
    w = net.constant("w", rng.standard_normal((12, 5)).astype(np.float32))
    m = net.op("MatMul", k, w)
    shape = {"x": ["N", 3, 14, 11]}
    data = net.model(shape, {j: ["N", 12, 1, 1], m: ["N", 5], d: ["N", 16, 7, 6]})
    kinds = {type(call).__name__ for call in schedule(data).calls}
    assert kinds == {"ProductCall", "PoolCall", "JoinCall", "ViewCall"}
    check_values(data, {"x": rng.standard_normal((2, 3, 14, 11)).astype(np.float32)})


@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("count_include_pad", [0, 1])
def test_pools_that_round_up_equal_onnxruntime(
    ceil_mode: int, op_type: str, count_include_pad: int, rng: np.random.Generator
) -> None:
    net = Net()
    extra = {"count_include_pad": count_include_pad} if op_type == "AveragePool" else {}
    geometry = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1]}
    a = net.conv("x", 8, 3)
    b = net.op(op_type, a, ceil_mode=ceil_mode, **geometry, **extra)
    data = net.model({"x": ["N", 3, 12, 13]}, {b: ["N", 8, "h", "w"]})
    assert not any(isinstance(call, HostGroup) for call in schedule(data).calls)
    check_values(data, {"x": rng.standard_normal((2, 3, 12, 13)).astype(np.float32)})


def test_pooling_that_gives_indices_runs_on_the_host() -> None:
    net = Net()
    a = net.conv("x", 8, 3)
    net.nodes.append(helper.make_node("MaxPool", [a], ["y", "i"], kernel_shape=[2, 2], name="p"))
    data = net.model({"x": [1, 3, 8, 8]}, {"y": [1, 8, 5, 5]})
    data = with_output(data, "i", [1, 8, 5, 5])
    assert any(isinstance(call, HostGroup) for call in schedule(data).calls)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("window", [8, 32])
def test_parts_of_a_concatenation_are_written_in_place(
    pooled: bool, window: int, rng: np.random.Generator
) -> None:
    """Windows of 8 end where the parts do, those of 32 do not; a pool wants floats as well."""
    net = Net()
    a = net.op("Relu", net.conv("x", 16, 3, pads=[1] * 4))
    b = net.op("Relu", net.conv(a, 24, 16, k=1))
    c = net.op("Relu", net.conv(a, 16, 16, pads=[1] * 4))
    d = net.op("Concat", b, c, axis=1)
    e = net.conv(d, 8, 40, pads=[1] * 4)
    outputs = {e: ["N", 8, 9, 9]}
    if pooled:
        outputs[net.op("GlobalMaxPool", d)] = ["N", 40, 1, 1]
    data = net.model({"x": ["N", 3, 9, 9]}, outputs)
    model = accel.load(data)
    x = rng.standard_normal((2, 3, 9, 9)).astype(np.float32)
    expected: Any = accel.device("onnxruntime").compile(model).run(x)
    program = accel.device("cpu").compile(model.quantize(window=window), strict=True)
    for _ in range(2):
        got: Any = program.run(x)
        for name in outputs:
            want, have = (v[name] if isinstance(v, dict) else v for v in (expected, got))
            assert np.linalg.norm(have - want) <= CLOSE * np.linalg.norm(want)


@pytest.mark.parametrize("shared_sigmoid", [False, True])
def test_silu_is_fused_where_nothing_else_reads_the_sigmoid(
    shared_sigmoid: bool, rng: np.random.Generator
) -> None:
    net = Net()
    a = net.conv("x", 8, 3)
    sigmoid = net.op("Sigmoid", a)
    y = net.conv(net.op("Mul", sigmoid, a), 4, 8)
    outputs = {y: ["N", 4, 4, 4]} | ({sigmoid: ["N", 8, 6, 6]} if shared_sigmoid else {})
    data = net.model({"x": ["N", 3, 8, 8]}, outputs)
    operators = [c.op for c in kernel_calls(data)]
    assert operators == (["Conv", "Conv"] if shared_sigmoid else ["Conv+Sigmoid+Mul", "Conv"])
    check_values(data, {"x": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)})


@pytest.mark.parametrize("mode", ["half_pixel", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest_resize_by_whole_factors_equals_onnxruntime(
    mode: str, rounding: str, rng: np.random.Generator
) -> None:
    """Once read by a product alone, once also as an output, once by size instead of scales."""
    net = Net()
    how = {"coordinate_transformation_mode": mode, "nearest_mode": rounding}
    scales = net.constant("scales", np.array([1, 1, 2, 3], np.float32))
    sizes = net.constant("sizes", np.array([2, 16, 24, 36]))
    a = net.op("Relu", net.conv("x", 16, 3, pads=[1] * 4))
    b = net.op("Resize", a, "", scales, **how)
    c = net.op("Relu", net.conv(b, 16, 16, pads=[1] * 4))
    d = net.op("Resize", a, "", "", sizes, **how)
    e = net.conv(d, 8, 16)
    outputs = {c: [2, 16, 12, 18], d: [2, 16, 24, 36], e: [2, 8, 22, 34]}
    data = net.model({"x": [2, 3, 6, 6]}, outputs)
    calls = schedule(data).calls
    assert sum(isinstance(call, NearestCall) for call in calls) == 2
    assert not any(isinstance(call, HostGroup) for call in calls)
    check_values(data, {"x": rng.standard_normal((2, 3, 6, 6)).astype(np.float32)})


def test_nearest_resize_of_a_part_and_of_a_residual(rng: np.random.Generator) -> None:
    net = Net()
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    scales = net.constant("scales", np.array([1, 1, 2, 2], np.float32))
    a = net.op("Relu", net.conv("x", 16, 3, pads=[1] * 4))
    b = net.op("Relu", net.conv(a, 16, 16, strides=[2, 2], pads=[1] * 4))
    c = net.op("Resize", b, "", scales, **how)
    d = net.op("Add", net.conv(a, 16, 16, k=1), c)
    e = net.conv(net.op("Concat", c, a, axis=1), 8, 32, k=1)
    f = net.conv(net.op("Resize", net.op("Resize", b, "", scales, **how), "", scales, **how), 8, 16)
    outputs = {d: ["N", 16, 8, 8], e: ["N", 8, 8, 8], f: ["N", 8, 14, 14]}
    data = net.model({"x": ["N", 3, 8, 8]}, outputs)
    assert not any(isinstance(call, HostGroup) for call in schedule(data).calls)
    check_values(data, {"x": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)})


@pytest.mark.parametrize(
    ("factor", "how"),
    [
        (1.5, {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}),
        (2.1, {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}),
        (2.0, {"mode": "cubic"}),
        (0.5, {"mode": "linear", "antialias": 1}),
        (2.0, {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"}),
        (2.0, {"coordinate_transformation_mode": "align_corners"}),
    ],
)
def test_other_resizes_run_on_the_host(
    factor: float, how: dict[str, Any], rng: np.random.Generator
) -> None:
    net = Net()
    scales = net.constant("scales", np.array([1, 1, factor, factor], np.float32))
    a = net.op("Resize", net.conv("x", 8, 3), "", scales, **how)
    data = net.model({"x": ["N", 3, 6, 6]}, {net.conv(a, 4, 8, k=1): ["N", 4, "h", "w"]}, 19)
    assert any(isinstance(call, HostGroup) for call in schedule(data).calls)
    check_values(data, {"x": rng.standard_normal((2, 3, 6, 6)).astype(np.float32)})


@pytest.mark.parametrize(
    "mode", ["half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners"]
)
@pytest.mark.parametrize("factors", [(2.0, 3.0), (1.3, 0.6), (1.0, 0.2)])
def test_linear_resize_equals_onnxruntime(
    mode: str, factors: tuple[float, float], rng: np.random.Generator
) -> None:
    """Once by scales, read by a product; once by sizes, as an output."""
    net = Net()
    how = {"mode": "linear", "coordinate_transformation_mode": mode}
    scales = net.constant("scales", np.array([1, 1, *factors], np.float32))
    high, wide = (int(6 * factor) for factor in factors)
    sizes = net.constant("sizes", np.array([2, 16, high, wide]))
    a = net.op("Relu", net.conv("x", 16, 3, pads=[1] * 4))
    b = net.conv(net.op("Resize", a, "", scales, **how), 8, 16, k=1)
    c = net.op("Resize", a, "", "", sizes, **how)
    outputs = {b: [2, 8, high, wide], c: [2, 16, high, wide]}
    data = net.model({"x": [2, 3, 6, 6]}, outputs, opset=18)
    calls = schedule(data).calls
    assert sum(isinstance(call, LinearCall) for call in calls) == 2
    assert not any(isinstance(call, HostGroup) for call in calls)
    check_values(data, {"x": rng.standard_normal((2, 3, 6, 6)).astype(np.float32)})


@pytest.mark.parametrize("form", ["exported", "operator", "read", "tanh"])
def test_gelu_is_fused_where_nothing_else_reads_its_parts(
    form: str, rng: np.random.Generator
) -> None:
    net = Net()
    w = net.constant("w", rng.standard_normal((12, 16)).astype(np.float32) / 3)
    one, half, root = (net.constant(f"c{i}", np.float32(v)) for i, v in enumerate((1, 0.5, 2**0.5)))
    x = net.op("MatMul", "x", w)
    erf = net.op("Erf", net.op("Div", x, root))
    y = net.op("Mul", net.op("Mul", x, net.op("Add", erf, one)), half)
    if form in ("operator", "tanh"):
        y = net.op("Gelu", x, **({"approximate": "tanh"} if form == "tanh" else {}))
    outputs = {y: ["N", 16]} | ({erf: ["N", 16]} if form == "read" else {})
    data = net.model({"x": ["N", 12]}, outputs, opset=20)
    (call,) = kernel_calls(data)
    names = {"exported": "MatMul+Div+Erf+Add+Mul+Mul", "operator": "MatMul+Gelu"}
    assert call.op == names.get(form, "MatMul")
    assert (call.epilogue.activation == "gelu") == (form in names)
    check_values(data, {"x": rng.standard_normal((5, 12)).astype(np.float32)})
