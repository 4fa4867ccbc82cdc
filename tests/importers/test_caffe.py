"""Every Caffe layer against a few lines of NumPy, written from Caffe's formulas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import caffe_files as cf
import numpy as np
import pytest

import accel

Array = np.ndarray[Any, Any]


def one(layer: str, bottoms: int = 1, tops: int = 1) -> str:
    """Text of one layer l that reads x0, x1, ... and makes y, or y0, y1, ..."""
    names = ["y"] if tops == 1 else [f"y{i}" for i in range(tops)]
    reads = " ".join(f'bottom: "x{i}"' for i in range(bottoms))
    return f'layer {{ name: "l" {reads} {" ".join(f"top: {n!r}" for n in names)} {layer} }}'


def convolve(x: Array, w: Array, stride: int, pad: int, dilation: int, groups: int) -> Array:
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    n, _, h, width = x.shape
    oc, ic, kh, kw = w.shape
    oh = (h - dilation * (kh - 1) - 1) // stride + 1
    ow = (width - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((n, oc, oh, ow))
    for o in range(oc):
        first = o // (oc // groups) * ic
        for i in range(oh):
            for j in range(ow):
                top, left = i * stride, j * stride
                part = x[:, first : first + ic,
                         top : top + dilation * kh : dilation,
                         left : left + dilation * kw : dilation]  # fmt: skip
                y[:, o, i, j] = (part[..., :kh, :kw] * w[o]).sum(axis=(1, 2, 3))
    return y


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("stride", "pad", "dilation", "groups"),
                         [(1, 0, 1, 1), (2, 1, 1, 2), (1, 2, 2, 1), (3, 1, 1, 4)])  # fmt: skip
def test_convolution_equals_its_sum(
    tmp_path: Path, rng: np.random.Generator, old: bool, stride: int, pad: int, dilation: int,
    groups: int,
) -> None:  # fmt: skip
    x = rng.standard_normal((2, 4, 9, 11)).astype(np.float32)
    w, b = rng.standard_normal((8, 4 // groups, 3, 3)), rng.standard_normal(8)
    p = (f"convolution_param {{ num_output: 8 kernel_size: 3 stride: {stride} pad: {pad} "
         f"dilation: {dilation} group: {groups} }}")  # fmt: skip
    text = one(f'type: "Convolution" {p}')
    if old:
        text = text.replace("layer {", "layers {").replace('"Convolution"', "CONVOLUTION")
    model = cf.load(tmp_path, cf.net(text, x.shape), {"l": [w, b]}, old)
    expected = convolve(x, w, stride, pad, dilation, groups) + b[:, None, None]
    cf.assert_close(cf.run(model, x), expected)


def test_convolution_takes_sides_apart(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 1, 6, 7)).astype(np.float32)
    w = rng.standard_normal((1, 1, 1, 3))
    p = "num_output: 1 kernel_h: 1 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 1"
    text = one(f'type: "Convolution" convolution_param {{ {p} bias_term: false }}')
    got = cf.run(cf.load(tmp_path, cf.net(text, x.shape), {"l": [w]}), x)
    padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1)))[:, :, ::2]
    expected = sum(padded[..., i : i + 7] * w[0, 0, 0, i] for i in range(3))
    cf.assert_close(got, expected)


def test_deconvolution_scatters(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 4, 3, 5)).astype(np.float32)
    w = rng.standard_normal((4, 3, 4, 4))
    p = "num_output: 6 kernel_size: 4 stride: 2 pad: 1 group: 2 bias_term: false"
    text = one(f'type: "Deconvolution" convolution_param {{ {p} }}')
    got = cf.run(cf.load(tmp_path, cf.net(text, x.shape), {"l": [w]}), x)
    full = np.zeros((1, 6, 8, 12))
    for c in range(4):
        outputs = slice(c // 2 * 3, c // 2 * 3 + 3)
        for i in range(3):
            for j in range(5):
                full[0, outputs, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += x[0, c, i, j] * w[c]
    cf.assert_close(got, full[:, :, 1:-1, 1:-1])


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(("size", "kernel", "stride", "pad"), [
    (32, 3, 2, 0), (7, 3, 2, 1), (8, 3, 2, 1), (5, 2, 2, 1), (6, 3, 3, 2), (9, 5, 1, 2),
    (8, 5, 4, 2),
])  # fmt: skip
def test_pooling_rounds_as_caffe(
    tmp_path: Path, rng: np.random.Generator, method: str, size: int, kernel: int, stride: int,
    pad: int,
) -> None:  # fmt: skip
    x = rng.standard_normal((2, 3, size, size)).astype(np.float32)
    p = f"pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad}"
    text = one(f'type: "Pooling" pooling_param {{ {p} }}')
    got = cf.run(cf.load(tmp_path, cf.net(text, x.shape)), x)
    cf.assert_close(got, pool(x, method, kernel, stride, pad))


def pool(x: Array, method: str, kernel: int, stride: int, pad: int) -> Array:
    """Caffe's loops: a window may reach over the padding's end, where nothing counts."""
    size = x.shape[2]
    out = int(np.ceil((size + 2 * pad - kernel) / stride)) + 1
    if pad and (out - 1) * stride >= size + pad:
        out -= 1
    y = np.zeros((*x.shape[:2], out, out))
    for i in range(out):
        for j in range(out):
            low = [i * stride - pad, j * stride - pad]
            high = [min(v + kernel, size + pad) for v in low]
            area = (high[0] - low[0]) * (high[1] - low[1])
            low, high = [max(v, 0) for v in low], [min(v, size) for v in high]
            part = x[:, :, low[0] : high[0], low[1] : high[1]]
            y[:, :, i, j] = part.max((2, 3)) if method == "MAX" else part.sum((2, 3)) / area
    return y


@pytest.mark.parametrize(("method", "reduce"), [("MAX", np.max), ("AVE", np.mean)])
def test_global_pooling(tmp_path: Path, rng: np.random.Generator, method: str, reduce: Any) -> None:
    x = rng.standard_normal((2, 3, 5, 7)).astype(np.float32)
    text = one(f'type: "Pooling" pooling_param {{ pool: {method} global_pooling: true }}')
    got = cf.run(cf.load(tmp_path, cf.net(text, x.shape)), x)
    cf.assert_close(got, reduce(x, axis=(2, 3), keepdims=True))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


UNARY: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "ReLU": ("", lambda x: np.maximum(x, 0)),
    "ReLU slope": ("relu_param { negative_slope: 0.2 }", lambda x: np.where(x > 0, x, 0.2 * x)),
    "ReLU6": ("", lambda x: np.clip(x, 0, 6)),
    "ELU": ("elu_param { alpha: 0.5 }", lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    "Sigmoid": ("", sigmoid),
    "TanH": ("", np.tanh),
    "AbsVal": ("", np.abs),
    "BNLL": ("", lambda x: np.log1p(np.exp(x))),
    "Power": ("power_param { power: 2 scale: 3 shift: 1 }", lambda x: (1 + 3 * x) ** 2),
    "Exp": ("exp_param { base: 2 scale: 0.5 shift: 1 }", lambda x: 2 ** (1 + 0.5 * x)),
    "Log": ("log_param { base: 10 scale: 0 shift: 5 }", lambda x: np.log10(5 + 0 * x)),
    "Softmax": ("", lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)),
    "LRN": (
        "lrn_param { local_size: 3 alpha: 2 beta: 0.5 k: 1.5 }",
        lambda x: x / np.sqrt(1.5 + 2 / 3 * sum(
            np.pad(x**2, ((0, 0), (1, 1), (0, 0), (0, 0)))[:, i : i + x.shape[1]]
            for i in range(3))),
    ),
    "LRN within": (
        "lrn_param { local_size: 3 alpha: 2 beta: 0.5 norm_region: WITHIN_CHANNEL }",
        lambda x: x / np.sqrt(1 + 2 * pool(x**2, "AVE", 3, 1, 1)),
    ),
    "Dropout": ("dropout_param { dropout_ratio: 0.3 }", lambda x: x),
    "Permute": ("permute_param { order: 0 order: 2 order: 3 order: 1 }",
                lambda x: x.transpose(0, 2, 3, 1)),
    "Reshape": ("reshape_param { shape { dim: 0 dim: -1 dim: 2 } }",
                lambda x: x.reshape(len(x), -1, 2)),
    "Reshape part": ("reshape_param { shape { dim: 3 dim: 2 } axis: 1 num_axes: 1 }",
                     lambda x: x.reshape(len(x), 3, 2, *x.shape[2:])),
    "Flatten": ("", lambda x: x.reshape(len(x), -1)),
    "Flatten part": ("flatten_param { axis: 2 end_axis: 3 }",
                     lambda x: x.reshape(*x.shape[:2], -1)),
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_layer_without_weights_equals_its_formula(
    tmp_path: Path, rng: np.random.Generator, name: str
) -> None:
    text, formula = UNARY[name]
    x = (3 * rng.standard_normal((2, 6, 5, 5))).astype(np.float32)
    text = one(f'type: "{name.split()[0]}" {text}')
    got = cf.run(cf.load(tmp_path, cf.net(text, x.shape)), x)
    cf.assert_close(got, formula(x))


OLD = {"ReLU": "RELU", "ReLU slope": "RELU", "Sigmoid": "SIGMOID", "TanH": "TANH",
       "AbsVal": "ABSVAL", "BNLL": "BNLL", "Power": "POWER", "Exp": "EXP", "Softmax": "SOFTMAX",
       "LRN": "LRN", "LRN within": "LRN", "Dropout": "DROPOUT", "Flatten": "FLATTEN"}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_old_form_of_a_layer_equals_its_formula(
    tmp_path: Path, rng: np.random.Generator, name: str
) -> None:
    text, formula = UNARY[name]
    x = (3 * rng.standard_normal((2, 6, 5, 5))).astype(np.float32)
    text = one(f"type: {OLD[name]} {text}").replace("layer {", "layers {")
    got = cf.run(cf.load(tmp_path, cf.net(text, x.shape), old=True), x)
    cf.assert_close(got, formula(x))


def test_old_form_of_layers_of_several_values(tmp_path: Path, rng: np.random.Generator) -> None:
    x, y = (rng.standard_normal((2, 4, 6, 6)).astype(np.float32) for _ in "xy")
    w, b = rng.standard_normal((3, 144)), rng.standard_normal(3)
    kernel = rng.standard_normal((4, 2, 2, 2))
    spread = np.einsum("nchw,cokl->nohkwl", x, kernel).reshape(2, 2, 12, 12)
    cases: list[tuple[str, int, list[Array], Array]] = [
        ("type: ELTWISE eltwise_param { operation: MAX }", 2, [], np.maximum(x, y)),
        ("type: CONCAT concat_param { concat_dim: 2 }", 2, [], np.concatenate([x, y], axis=2)),
        ("type: POOLING pooling_param { pool: AVE kernel_size: 3 stride: 2 }", 1, [],
         pool(x, "AVE", 3, 2, 0)),
        ("type: INNER_PRODUCT inner_product_param { num_output: 3 }", 1, [w, b],
         x.reshape(2, -1) @ w.T + b),
        ("type: DECONVOLUTION convolution_param { num_output: 2 kernel_size: 2 stride: 2 "
         "bias_term: false }", 1, [kernel], spread),
    ]  # fmt: skip
    for text, bottoms, weights, expected in cases:
        whole = one(text, bottoms).replace("layer {", "layers {")
        net = cf.net(whole, *[x.shape] * bottoms)
        model = cf.load(tmp_path, net, {"l": weights}, old=True)
        cf.assert_close(cf.run(model, *[x, y][:bottoms]), expected, text)


def channels(a: Array) -> Array:
    return a[:, None, None]


def test_layers_with_weights_equal_their_formulas(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 4, 3, 5)).astype(np.float32)
    a, b, v = rng.standard_normal(4), rng.standard_normal(4), rng.random(4) + 0.5
    plane, w, bias = (rng.standard_normal(s) for s in ((3, 5), (7, 60), 7))
    norm = np.sqrt((x**2).sum(axis=1, keepdims=True) + 1e-10)
    cases: list[tuple[str, list[Array], Array]] = [
        ('type: "PReLU"', [a], np.where(x > 0, x, channels(a) * x)),
        ('type: "PReLU" prelu_param { channel_shared: true }', [a[:1]],
         np.where(x > 0, x, a[0] * x)),
        ('type: "BatchNorm" batch_norm_param { eps: 0.01 }', [2 * a, 2 * v, np.array([2.0])],
         (x - channels(a)) / channels(np.sqrt(v + 0.01))),
        ('type: "Scale" scale_param { bias_term: true }', [a, b], x * channels(a) + channels(b)),
        ('type: "Scale" scale_param { axis: 2 num_axes: 2 }', [plane], x * plane),
        ('type: "Bias"', [b], x + channels(b)),
        ('type: "InnerProduct" inner_product_param { num_output: 7 }', [w, bias],
         x.reshape(2, -1) @ w.T + bias),
        ('type: "InnerProduct" inner_product_param { num_output: 7 transpose: true }',
         [w.T.copy(), bias], x.reshape(2, -1) @ w.T + bias),
        ('type: "InnerProduct" inner_product_param { num_output: 7 axis: 2 }',
         [w[:, :15].copy(), bias], x.reshape(2, 4, -1) @ w[:, :15].T + bias),
        ('type: "Normalize" norm_param { across_spatial: false channel_shared: false }', [a],
         x / norm * channels(a)),
        ('type: "Normalize"', [a[:1]],
         x / np.sqrt((x**2).sum(axis=(1, 2, 3), keepdims=True)) * a[0]),
    ]  # fmt: skip
    for text, weights, expected in cases:
        model = cf.load(tmp_path, cf.net(one(text), x.shape), {"l": weights})
        cf.assert_close(cf.run(model, x), expected, text)


def test_layers_of_several_inputs_equal_their_formulas(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    x, y, z = (rng.standard_normal((2, 4, 3, 5)).astype(np.float32) for _ in "xyz")
    cases = [
        ('type: "Eltwise"', x + y + z),
        ('type: "Eltwise" eltwise_param { coeff: 1 coeff: -1 coeff: 0.5 }', x - y + 0.5 * z),
        ('type: "Eltwise" eltwise_param { operation: PROD }', x * y * z),
        ('type: "Eltwise" eltwise_param { operation: MAX }', np.maximum(np.maximum(x, y), z)),
        ('type: "Concat"', np.concatenate([x, y, z], axis=1)),
        ('type: "Concat" concat_param { axis: -1 }', np.concatenate([x, y, z], axis=3)),
    ]
    for text, expected in cases:
        model = cf.load(tmp_path, cf.net(one(text, bottoms=3), *[x.shape] * 3))
        cf.assert_close(cf.run(model, x, y, z), expected, text)


def test_slice_split_and_crop_take_parts(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 6, 5, 7)).astype(np.float32)
    parts = cf.run(
        cf.load(tmp_path, cf.net(one('type: "Slice" slice_param { slice_point: 1 slice_point: 3 }',
                                     tops=3), x.shape)), x)  # fmt: skip
    for got, want in zip(parts.values(), np.split(x, [1, 3], axis=1), strict=True):
        np.testing.assert_array_equal(got, want)
    halves = cf.run(cf.load(tmp_path, cf.net(one('type: "Slice"', tops=2), x.shape)), x)
    np.testing.assert_array_equal(halves["y1"], x[:, 3:])
    twins = cf.run(cf.load(tmp_path, cf.net(one('type: "Split"', tops=2), x.shape)), x)
    np.testing.assert_array_equal(twins["y0"], twins["y1"])
    small = x[:, :, :3, :4].copy()
    text = one('type: "Crop" crop_param { offset: 1 offset: 2 }', bottoms=2)
    got = cf.run(cf.load(tmp_path, cf.net(text, x.shape, small.shape)), x, small)
    np.testing.assert_array_equal(got, x[:, :, 1:4, 2:6])


def test_training_layers_vanish_and_in_place_layers_keep_the_name(tmp_path: Path) -> None:
    text = """
    name: "n"
    layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } }
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 9 dim: 4 } } }
    layer { name: "y" type: "InnerProduct" bottom: "data" top: "y"
            inner_product_param { num_output: 4 bias_term: false } }
    layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
    layer { name: "noise" type: "Dropout" bottom: "y" top: "y" exclude { phase: TEST } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }
    """
    model = cf.load(tmp_path, text, {"y": [-np.eye(4)]})
    assert [(s.name, s.shape) for s in model.inputs] == [("data", (None, 4))]
    assert [(s.name, s.shape) for s in model.outputs] == [("y", (None, 4))]
    x = np.array([[1, -2, 3, -4]], np.float32)
    got = accel.device("onnxruntime").compile(model).run(x)
    np.testing.assert_array_equal(got, np.maximum(-x, 0))


@pytest.mark.parametrize("kind", ["ReLU", "Dropout"])
def test_layer_in_place_of_the_input_gives_an_output(tmp_path: Path, kind: str) -> None:
    text = f'layer {{ name: "l" type: "{kind}" bottom: "x0" top: "x0" }}'
    x = np.array([[1, -2]], np.float32)
    got = cf.run(cf.load(tmp_path, cf.net(text, x.shape)), x)
    np.testing.assert_array_equal(got, np.maximum(x, 0) if kind == "ReLU" else x)


def test_batchnorm_and_scale_fold_into_the_convolution(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    text = """
    layer { name: "c" type: "Convolution" bottom: "x0" top: "c"
            convolution_param { num_output: 8 kernel_size: 3 bias_term: false } }
    layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" }
    layer { name: "s" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
    layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
    """
    a = [rng.random(8) + 0.5 for _ in range(4)]
    weights = {"c": [rng.standard_normal((8, 3, 3, 3))], "b": [*a[:2], np.ones(1)], "s": a[2:]}
    model = cf.load(tmp_path, cf.net(text, (1, 3, 8, 8)), weights)
    program = accel.device("cpu").compile(model.quantize(), strict=True)
    assert [row.op for row in program.explain().rows] == ["Conv+Relu"]


def test_pair_of_paths_is_found_or_asked_for(tmp_path: Path) -> None:
    text = cf.net(one('type: "ReLU"'), (1, 4))
    cf.load(tmp_path, text)
    (tmp_path / "net.caffemodel").rename(tmp_path / "net_iter_5.caffemodel")
    pair = (tmp_path / "net.prototxt", tmp_path / "net_iter_5.caffemodel")
    for source in (*pair, pair, pair[::-1]):
        assert accel.load(source).name == "net"
    (tmp_path / "net_iter_6.caffemodel").write_bytes(b"")
    with pytest.raises(accel.ModelError, match="give both"):
        accel.load(pair[0])
