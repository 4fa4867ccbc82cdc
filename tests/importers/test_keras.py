"""Keras layers against NumPy in Keras's own layout, and the shared files in both forms."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import accel
from accel.errors import AccelError, ModelError, UnsupportedError
from accel.importers.keras import import_keras
from accel.model import Model

Array = np.ndarray[Any, Any]
Described = tuple[str, dict[str, Any], list[Array]]
Node = tuple[str, str, list[str], dict[str, Any]]


def configuration(layers: list[Described], shape: tuple[int, ...]) -> dict[str, Any]:
    """A Sequential model; each layer's name is its class and its place."""
    inner = [{"class_name": "InputLayer",
              "config": {"name": "image", "batch_input_shape": [None, *shape]}}]  # fmt: skip
    inner += [
        {"class_name": kind, "config": {"name": f"{kind}_{i}", **config}}
        for i, (kind, config, _) in enumerate(layers)
    ]
    return {"class_name": "Sequential", "config": {"name": "net", "layers": inner}}


def write_h5(
    path: Path, config: dict[str, Any], weights: dict[str, list[Array]], version: str = "2.4.0"
) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = version
        for name, arrays in weights.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [f"{name}/{i}:0" for i in range(len(arrays))]
            for i, array in enumerate(arrays):
                group[f"{name}/{i}:0"] = array.astype(np.float32)
    return path


def sequence(path: Path, layers: list[Described], x: Array) -> Array:
    """Output of a Sequential model of these layers, read in this process."""
    config = configuration(layers, x.shape[1:])
    weights = {f"{kind}_{i}": arrays for i, (kind, _, arrays) in enumerate(layers)}
    file = write_h5(path / "net.h5", config, weights)
    model = Model.from_graph(import_keras(file), "net")
    y = accel.device("onnxruntime").compile(model, batch_size=len(x)).run(x)
    assert isinstance(y, np.ndarray)
    return y


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's rule: as many zeros as the last window lacks, the odd one at the end."""
    out = -(-size // stride)
    total = max((out - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def convolve(x: Array, w: Array, stride: int, padding: str, dilation: int = 1) -> Array:
    """x (N, H, W, C), w (KH, KW, C, OC)."""
    kh, kw = w.shape[:2]
    if padding == "same":
        pads = [same_pads(x.shape[i + 1], w.shape[i], stride, dilation) for i in (0, 1)]
        x = np.pad(x, ((0, 0), *pads, (0, 0)))
    oh = -(-(x.shape[1] - dilation * (kh - 1)) // stride)
    ow = -(-(x.shape[2] - dilation * (kw - 1)) // stride)
    y = np.zeros((len(x), oh, ow, w.shape[3]))
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation, j * dilation
            part = x[:, top : top + (oh - 1) * stride + 1 : stride,
                     left : left + (ow - 1) * stride + 1 : stride]  # fmt: skip
            y += part @ w[i, j]
    return y


def spread(w: Array) -> Array:
    """A depthwise kernel (KH, KW, C, M) as an ordinary one (KH, KW, C, C * M)."""
    kh, kw, c, m = w.shape
    full = np.zeros((kh, kw, c, c * m))
    for i in range(c):
        full[:, :, i, i * m : (i + 1) * m] = w[:, :, i]
    return full


def check(got: Array, want: Array) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(9, 3, 1), (8, 3, 2), (9, 2, 2), (7, 5, 3)])
def test_convolutions_pad_as_tensorflow(
    tmp_path: Path, rng: np.random.Generator, padding: str, size: int, kernel: int, stride: int
) -> None:
    x = rng.standard_normal((2, size, size + 1, 4)).astype(np.float32)
    common = {"kernel_size": [kernel, kernel], "strides": [stride, stride], "padding": padding}
    w, b = rng.standard_normal((kernel, kernel, 4, 6)), rng.standard_normal(6)
    got = sequence(
        tmp_path, [("Conv2D", {"filters": 6, "activation": "relu", **common}, [w, b])], x
    )
    check(got, np.maximum(convolve(x, w, stride, padding) + b, 0))
    d = rng.standard_normal((kernel, kernel, 4, 2))
    depthwise = {"depth_multiplier": 2, "use_bias": False, **common}
    got = sequence(tmp_path, [("DepthwiseConv2D", depthwise, [d])], x)
    check(got, convolve(x, spread(d), stride, padding))
    p = rng.standard_normal((1, 1, 8, 5))
    separable = {"depth_multiplier": 2, "filters": 5, "use_bias": False, **common}
    got = sequence(tmp_path, [("SeparableConv2D", separable, [d, p])], x)
    check(got, convolve(x, spread(d), stride, padding) @ p[0, 0])


def test_grouped_and_dilated_convolution(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 9, 9, 4)).astype(np.float32)
    w = rng.standard_normal((3, 3, 2, 6))
    config = {"filters": 6, "kernel_size": [3, 3], "groups": 2, "use_bias": False,
              "dilation_rate": [2, 2], "padding": "same"}  # fmt: skip
    got = sequence(tmp_path, [("Conv2D", config, [w])], x)
    halves = [convolve(x[..., :2], w[..., :3], 1, "same", 2),
              convolve(x[..., 2:], w[..., 3:], 1, "same", 2)]  # fmt: skip
    check(got, np.concatenate(halves, axis=-1))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_poolings_leave_the_padding_out(
    tmp_path: Path, rng: np.random.Generator, padding: str
) -> None:
    x = rng.standard_normal((1, 8, 8, 3)).astype(np.float32)
    config = {"pool_size": [3, 3], "strides": [2, 2], "padding": padding}
    ones = spread(np.ones((3, 3, 3, 1)))
    mean = convolve(x, ones, 2, padding) / convolve(np.ones_like(x), ones, 2, padding)
    check(sequence(tmp_path, [("AveragePooling2D", config, [])], x), mean)
    pads = same_pads(8, 3, 2) if padding == "same" else (0, 0)
    padded = np.pad(x, ((0, 0), pads, pads, (0, 0)), constant_values=-np.inf)
    n = 4 if padding == "same" else 3
    parts = [padded[:, i : i + 2 * n - 1 : 2, j : j + 2 * n - 1 : 2]
             for i in range(3) for j in range(3)]  # fmt: skip
    check(sequence(tmp_path, [("MaxPooling2D", config, [])], x), np.max(parts, axis=0))


def test_simple_layers_equal_their_formulas(tmp_path: Path, rng: np.random.Generator) -> None:
    x = (3 * rng.standard_normal((2, 4, 5, 6))).astype(np.float32)
    a, b, m, v = (rng.random(6) + 0.5 for _ in range(4))
    w, slope = rng.standard_normal((6, 3)), rng.random((1, 1, 6))
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    cases: list[tuple[str, dict[str, Any], list[Array], Array]] = [
        ("BatchNormalization", {"axis": [3], "epsilon": 0.01}, [a, b, m, v],
         (x - m) / np.sqrt(v + 0.01) * a + b),
        ("BatchNormalization", {"axis": -1, "scale": False}, [b, m, v],
         (x - m) / np.sqrt(v + 0.001) + b),
        ("Dense", {"units": 3, "use_bias": False}, [w], x @ w),
        ("PReLU", {"shared_axes": [1, 2]}, [slope], np.where(x > 0, x, slope * x)),
        ("ReLU", {"max_value": 6.0}, [], np.clip(x, 0, 6)),
        ("ReLU", {"negative_slope": 0.1}, [], np.where(x > 0, x, 0.1 * x)),
        ("LeakyReLU", {"alpha": 0.2}, [], np.where(x > 0, x, 0.2 * x)),
        ("ELU", {"alpha": 0.5}, [], np.where(x > 0, x, 0.5 * np.expm1(x))),
        ("Softmax", {"axis": -1}, [], e / e.sum(axis=-1, keepdims=True)),
        ("Activation", {"activation": "swish"}, [], x / (1 + np.exp(-x))),
        ("Activation", {"activation": "hard_sigmoid"}, [], np.clip(0.2 * x + 0.5, 0, 1)),
        ("Activation", {"activation": {"class_name": "function", "config": "tanh"}}, [],
         np.tanh(x)),
        ("Dropout", {"rate": 0.5}, [], x),
        ("Flatten", {}, [], x.reshape(2, -1)),
        ("Reshape", {"target_shape": [10, -1]}, [], x.reshape(2, 10, 12)),
        ("Reshape", {"target_shape": [2, 10, 6]}, [], x.reshape(2, 2, 10, 6)),
        ("ZeroPadding2D", {"padding": [[1, 2], [0, 3]]}, [],
         np.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)))),
        ("UpSampling2D", {"size": [2, 3]}, [], x.repeat(2, axis=1).repeat(3, axis=2)),
        ("Rescaling", {"scale": 0.5, "offset": -1}, [], x / 2 - 1),
        ("GlobalAveragePooling2D", {}, [], x.mean(axis=(1, 2))),
        ("GlobalMaxPooling2D", {"keepdims": True}, [], x.max(axis=(1, 2), keepdims=True)),
    ]  # fmt: skip
    for kind, config, weights, want in cases:
        check(sequence(tmp_path, [(kind, config, weights)], x), want)


def functional(nodes: list[Node], newer: bool) -> Any:
    """A graph of (class, name, inputs, config); the last one is the output."""
    shape_key = "batch_shape" if newer else "batch_input_shape"
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
         "config": {"name": "x", shape_key: [None, 4, 4, 2]}}
    ]  # fmt: skip
    for kind, name, inputs, config in nodes:
        if newer:
            tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [i, 0, 0]}}
                       for i in inputs]  # fmt: skip
            calls: Any = [{"args": [tensors], "kwargs": {}}]
        else:
            calls = [[[i, 0, 0, {}] for i in inputs]]
        layers.append({"class_name": kind, "name": name, "inbound_nodes": calls,
                       "config": {"name": name, **config}})  # fmt: skip
    last: list[Any] = [nodes[-1][1], 0, 0]
    return {"class_name": "Functional",
            "config": {"layers": layers, "output_layers": last if newer else [last]}}  # fmt: skip


MERGES: list[Node] = [
    ("Concatenate", "c", ["x", "x"], {"axis": -1}),
    ("Activation", "r", ["x"], {"activation": "relu"}),
    ("Concatenate", "d", ["r", "x"], {"axis": 3}),
    ("Add", "a", ["c", "d", "c"], {}),
    ("Subtract", "s", ["a", "d"], {}),
    ("Multiply", "m", ["s", "c"], {}),
    ("Maximum", "o", ["m", "d"], {}),
    ("Average", "v", ["o", "a"], {}),
]  # fmt: skip


def merged(x: Array) -> Array:
    c = np.concatenate([x, x], axis=-1)
    d = np.concatenate([np.maximum(x, 0), x], axis=-1)
    a = c + d + c
    result: Array = (np.maximum((a - d) * c, d) + a) / 2
    return result


@pytest.mark.parametrize("newer", [False, True])
def test_graph_of_merges(tmp_path: Path, rng: np.random.Generator, newer: bool) -> None:
    x = rng.standard_normal((2, 4, 4, 2)).astype(np.float32)
    config = functional(MERGES, newer)
    if newer:
        model = accel.load(write_keras(tmp_path / "net.keras", config, {}))
    else:
        model = accel.load(write_h5(tmp_path / "net.h5", config, {"x": []}))
    got = accel.device("onnxruntime").compile(model, batch_size=2).run(x)
    assert isinstance(got, np.ndarray)
    check(got, merged(x))


def write_keras(path: Path, config: Any, weights: dict[str, list[Array]]) -> Path:
    """`weights`: group inside ``layers`` to its variables."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.create_group("layers")
        for group, arrays in weights.items():
            for i, array in enumerate(arrays):
                file[f"layers/{group}/vars/{i}"] = array.astype(np.float32)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", memory.getvalue())
    return path


def test_keras_file_counts_layers_of_a_class(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 4)).astype(np.float32)
    w = [rng.standard_normal((4, 4)) for _ in range(2)]
    layers: list[Described] = [("Dense", {"units": 4, "use_bias": False}, []) for _ in w]
    config = configuration(layers, (4,))
    path = write_keras(tmp_path / "net.keras", config, {"dense": [w[0]], "dense_1": [w[1]]})
    y = accel.device("onnxruntime").compile(Model.from_graph(import_keras(path), "net"), 3).run(x)
    assert isinstance(y, np.ndarray)
    check(y, x @ w[0] @ w[1])


@pytest.mark.parametrize("file", ["pretrainedResnet.h5", "resnet8_cifar10.keras"])
def test_shared_resnet_equals_its_onnx_form(file: str, shared: Path) -> None:
    data = shared / "data"
    with np.load(data / "cifar10" / "cifar10_test_lossless.npz") as archive:
        images, labels = archive["image"], archive["label"]
    model = accel.load(data / "models" / "original" / "keras" / file)
    twin = accel.load(data / "models" / "resnet8_cifar10.onnx")
    found = {}
    for name, version in (("own", model), ("twin", twin)):
        version = version.with_preprocessing(scale=1.0)
        for device, kind in (("onnxruntime", version), ("cpu", version.quantize())):
            program = accel.device(device).compile(kind, batch_size=50)
            assert device != "cpu" or program.explain().share >= 0.98
            y = program.run(images)
            assert isinstance(y, np.ndarray)
            found[name, device] = y.argmax(axis=1)
    np.testing.assert_array_equal(found["own", "onnxruntime"], found["twin", "onnxruntime"])
    assert round(float((found["own", "onnxruntime"] == labels).mean()), 4) == 0.8884
    agreement = [(found[n, "cpu"] == found[n, "onnxruntime"]).mean() for n in ("own", "twin")]
    assert agreement[0] >= agreement[1]


BAD: dict[str, tuple[list[Described], type[AccelError], str]] = {
    "unknown layer": ([("Lambda", {}, [])], UnsupportedError, "'Lambda_0' has type 'Lambda'"),
    "activation": ([("Activation", {"activation": "magic"}, [])], UnsupportedError, "magic"),
    "no weight": ([("Dense", {"units": 3}, [])], ModelError, "needs weight 0"),
    "weight": ([("Dense", {"units": 3}, [np.ones((9, 3))])], ModelError, r"\(9, 3\)"),
    "negative": ([("Dense", {"units": -3}, [])], ModelError, "units"),
    "huge": ([("UpSampling2D", {"size": [1 << 60, 2]}, [])], ModelError, "size"),
    "kernel": ([("MaxPooling2D", {"pool_size": [99, 99]}, [])], ModelError, "kernel"),
    "type": ([("ReLU", {"max_value": "six"}, [])], ModelError, "not a Keras model"),
    "reshape": ([("Reshape", {"target_shape": [7]}, [])], ModelError, "cannot turn"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_layer_is_named(tmp_path: Path, name: str) -> None:
    layers, error, message = BAD[name]
    with pytest.raises(error, match=message):
        sequence(tmp_path, layers, np.ones((1, 4, 4, 2), np.float32))


def test_cycle_and_weights_alone_are_refused(tmp_path: Path) -> None:
    cycle: list[Node] = [("ReLU", "a", ["b"], {}), ("ReLU", "b", ["a"], {})]
    with pytest.raises(ModelError, match="a cycle"):
        import_keras(write_h5(tmp_path / "cycle.h5", functional(cycle, False), {"x": []}))
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["w"] = np.ones(3)
    with pytest.raises(ModelError, match="weights without a network"):
        import_keras(tmp_path / "weights.h5")
    deep = "[" * 100_000
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file.create_dataset("x", data=1)
        file.attrs["model_config"] = deep[:60_000]
    with pytest.raises(ModelError):
        import_keras(tmp_path / "deep.h5")


def test_weights_claimed_but_not_stored_are_refused_before_they_are_allocated(
    tmp_path: Path,
) -> None:
    layers: list[Described] = [("Dense", {"units": 1 << 20, "use_bias": False}, [])]
    path = write_h5(tmp_path / "net.h5", configuration(layers, (1 << 20,)), {})
    with h5py.File(path, "a") as file:
        group = file.create_group("model_weights/Dense_0")
        group.attrs["weight_names"] = ["k"]
        group.create_dataset("k", shape=(1 << 20, 1 << 20), dtype="f4", chunks=True)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ModelError, match="a weight of shape"):
        import_keras(path)


def test_bytes_and_preprocessing(tmp_path: Path, rng: np.random.Generator) -> None:
    """Bytes are told by their signature; an input with channels last takes pixels as they are."""
    w = rng.standard_normal((3, 3, 3, 4)).astype(np.float32)
    layers: list[Described] = [
        ("Conv2D", {"filters": 4, "kernel_size": [3, 3], "use_bias": False}, [w]),
    ]
    path = write_h5(tmp_path / "net.h5", configuration(layers, (6, 5, 3)), {"Conv2D_0": [w]})
    model = accel.load(path.read_bytes()).with_preprocessing(mean=0.5, std=0.25, order="bgr")
    pixels = rng.integers(0, 256, (2, 6, 5, 3), np.uint8)
    got = accel.device("onnxruntime").compile(model, batch_size=2).run(pixels)
    assert isinstance(got, np.ndarray)
    check(got, convolve((pixels[..., ::-1] / 255 - 0.5) / 0.25, w, 1, "valid"))


def test_damaged_file_is_a_typed_error(tmp_path: Path, rng: np.random.Generator) -> None:
    layers: list[Described] = [("Dense", {"units": 3, "use_bias": False}, [np.ones((4, 3))])]
    whole = write_h5(
        tmp_path / "net.h5", configuration(layers, (4,)), {"Dense_0": layers[0][2]}
    ).read_bytes()
    path = tmp_path / "damaged.h5"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError):
        accel.load(path)
    for _ in range(6):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 40):
            damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            accel.load(path)
        except AccelError as err:
            assert str(err)


def siamese(newer: bool) -> Any:
    """Two calls of one model, their outputs in order; references as each version counts them."""
    own = functional([("Dense", "d", ["x"], {"units": 3, "use_bias": False})], newer)
    key = "batch_shape" if newer else "batch_input_shape"
    own["config"]["layers"][0]["config"][key] = [None, 4]
    base = {"class_name": "Functional", "name": "base",
            "config": {**own["config"], "name": "base"}}  # fmt: skip
    config = functional([("ReLU", "r", ["x"], {})], newer)
    config["config"]["layers"][0]["config"][key] = [None, 4]

    def call(name: str) -> Any:
        if newer:
            tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}
            return {"args": [tensor], "kwargs": {}}
        return [[name, 0, 0, {}]]

    config["config"]["layers"].append({**base, "inbound_nodes": [call("x"), call("r")]})
    config["config"]["output_layers"] = [["base", 1, 0], ["base", 2, 0]]
    return config


@pytest.mark.parametrize("newer", [False, True])
def test_model_inside_a_model_is_called_twice(
    tmp_path: Path, rng: np.random.Generator, newer: bool
) -> None:
    w, x = rng.standard_normal((4, 3)), rng.standard_normal((2, 4)).astype(np.float32)
    config = siamese(newer)
    if newer:
        path = write_keras(tmp_path / "net.keras", config, {"functional/layers/dense": [w]})
    else:
        path = tmp_path / "net.h5"
        write_h5(path, config, {"x": []})
        with h5py.File(path, "a") as file:
            group = file.create_group("model_weights/base")
            group.attrs["weight_names0"] = ["d/kernel:0"]  # as a long list is kept
            group["d/kernel:0"] = w.astype(np.float32)
    model = Model.from_graph(import_keras(path), "net")
    y = accel.device("onnxruntime").compile(model, batch_size=2).run(x)
    assert isinstance(y, dict)
    first, second = y.values()
    check(first, x @ w)
    check(second, np.maximum(x, 0) @ w)
