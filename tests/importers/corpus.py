"""Small valid model files of every format, made here or taken from beside the repository."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[2] / "shared" / "data" / "models"
CAFFE = """input: "x" input_shape { dim: 1 dim: 3 dim: 12 dim: 12 }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 group: 1 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "l" type: "LRN" bottom: "p" top: "l" lrn_param { local_size: 3 } }
layer { name: "i" type: "InnerProduct" bottom: "l" top: "i" inner_product_param { num_output: 5 } }
layer { name: "s" type: "Softmax" bottom: "i" top: "s" }"""
SAVED_MODEL = "tensorflow/resnet8_savedmodel"
Damage = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Case:
    """A file, with the others that belong to it.

    Attributes
    ----------
    name : of the file as written; `bytes` give its content, the file to damage
    beside : files or the folder that lie beside it
    """

    name: str
    content: Callable[[], bytes]
    beside: Callable[[Path], object] = lambda folder: None
    folder: bool = False

    def write(self, folder: Path, damage: Damage) -> Path:
        """Write the damaged file into an empty folder; what `accel.load` takes."""
        for old in folder.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        home = folder / "model" if self.folder else folder
        home.mkdir(exist_ok=True)
        self.beside(home)
        path = home / self.name
        path.write_bytes(damage(self.content()))
        return home if self.folder else path


@cache
def onnx_network() -> bytes:
    """Convolutions, batch normalization, a branch, pooling, a reshape and a product."""
    rng = np.random.default_rng(0)

    def constant(name: str, *shape: int) -> TensorProto:
        values = rng.standard_normal(shape).astype("<f4").tobytes()
        return helper.make_tensor(name, TensorProto.FLOAT, shape, values, raw=True)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a"]),
        helper.make_node("Concat", ["a", "r1"], ["j"], axis=1),
        helper.make_node("MaxPool", ["j"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["z"], transB=1),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    weights = [constant("w1", 8, 3, 3, 3), constant("b1", 8), constant("w2", 8, 1, 3, 3),
               constant("w3", 5, 16 * 16), constant("b3", 5), constant("g", 8), constant("b", 8),
               constant("m", 8)]  # fmt: skip
    weights.append(helper.make_tensor("v", TensorProto.FLOAT, [8], np.ones(8, np.float32)))
    weights.append(helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 256]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


@cache
def quantized_network() -> bytes:
    """The same as this package stores it in int8."""
    import accel

    return accel.load(onnx_network()).quantize().to_bytes()


@cache
def keras_file() -> bytes:
    """A convolution and a product, as Keras 2 writes them."""
    layers = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 6, 6, 3]}},
        {"class_name": "Conv2D", "config": {"name": "c", "filters": 4, "kernel_size": [3, 3]}},
        {"class_name": "Flatten", "config": {"name": "f"}},
        {"class_name": "Dense", "config": {"name": "d", "units": 3, "activation": "softmax"}},
    ]
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}
    weights = {"c": [(3, 3, 3, 4), (4,)], "d": [(64, 3), (3,)]}
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.4.0"
        for name, shapes in weights.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [f"{name}/{i}:0" for i in range(len(shapes))]
            for i, shape in enumerate(shapes):
                group[f"{name}/{i}:0"] = np.ones(shape, np.float32)
    return stream.getvalue()


@cache
def caffe_weights() -> bytes:
    """What `CAFFE` needs."""
    import caffe_files

    return caffe_files.caffemodel({"c": [np.ones((8, 3, 3, 3)), np.ones(8)],
                                   "i": [np.ones((5, 288)), np.ones(5)]})  # fmt: skip


def _shared(file: str) -> Callable[[], bytes]:
    return lambda: (MODELS / "original" / file).read_bytes()


def _saved_model(folder: Path) -> None:
    source = MODELS / "original" / SAVED_MODEL
    for file in source.rglob("*"):
        if file.is_file() and file.name != "saved_model.pb":
            target = folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


CASES = {
    "onnx": Case("net.onnx", onnx_network),
    "onnx-int8": Case("net.onnx", quantized_network),
    "caffemodel": Case("net.caffemodel", caffe_weights,
                       lambda f: (f / "net.prototxt").write_text(CAFFE)),
    "prototxt": Case("net.prototxt", CAFFE.encode,
                     lambda f: (f / "net.caffemodel").write_bytes(caffe_weights())),
    "h5": Case("net.h5", keras_file),
    "tflite": Case("net.tflite", (HERE / "convolutions.tflite").read_bytes),
}  # fmt: skip
if MODELS.is_dir():
    CASES |= {
        "keras": Case("net.keras", _shared("keras/resnet8_cifar10.keras")),
        "pb": Case("net.pb", _shared("tensorflow/resnet8_cifar10_frozen.pb")),
        "savedmodel": Case("saved_model.pb", _shared(f"{SAVED_MODEL}/saved_model.pb"),
                           _saved_model, folder=True),
        "torchscript": Case("net.pt", _shared("torch/resnet20_cifar10_torchscript.pt")),
    }  # fmt: skip
