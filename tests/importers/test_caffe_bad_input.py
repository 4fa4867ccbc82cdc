"""Damaged Caffe files end in a typed error that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import caffe_files as cf
import numpy as np
import pytest

import accel
from accel.errors import AccelError, ModelError, UnsupportedError
from accel.importers.caffe.schema import MAX_DEPTH

CONV = """layer { name: "c" type: "Convolution" bottom: "x0" top: "y"
          convolution_param { num_output: 4 kernel_size: 3 } }"""
IP = """layer { name: "c" type: "InnerProduct" bottom: "x0" top: "y"
        inner_product_param { num_output: 4 } }"""


def weights(shape: tuple[int, ...] = (4, 3, 3, 3)) -> dict[str, list[cf.Array]]:
    return {"c": [np.ones(shape), np.ones(4)], "d": [np.ones(shape), np.ones(4)]}


BAD = {
    "text": ("this is no network", "not a Caffe network"),
    "field": (CONV.replace("kernel_size", "kernal_size"), "kernal_size"),
    "value": (CONV.replace("num_output: 4", 'num_output: "a"'), "not a Caffe network"),
    "deep": ("layer { " * (MAX_DEPTH + 1), "nest deeper"),
    "empty": ("", "no inputs"),
    "cycle": ('layer { name: "a" type: "ReLU" bottom: "b" top: "a" } '
              'layer { name: "b" type: "ReLU" bottom: "a" top: "b" }', "no layer before"),
    "twice": (CONV + CONV.replace('"c"', '"d"', 1), "makes already"),
    "negative output": (CONV.replace("num_output: 4", "num_output: -4"), "group 1"),
    "huge output": (IP.replace("4 }", "4000000000000 }"), "shape"),
    "huge kernel": (CONV.replace("kernel_size: 3", "kernel_size: 99999999999"), "kernel_size"),
    "large kernel": (CONV.replace("kernel_size: 3", "kernel_size: 99"), "shape"),
    "zero stride": (CONV.replace("kernel_size: 3", "kernel_size: 3 stride: 0"), "stride"),
    "weights": (CONV.replace("kernel_size: 3", "kernel_size: 5"), "belong together"),
    "name": (CONV.replace('name: "c"', 'name: "z"'), "belong together"),
    "axis": (IP.replace("num_output: 4", "num_output: 4 axis: 9"), "axis 9"),
    "group": (CONV.replace("kernel_size: 3", "kernel_size: 3 group: 0"), "group 0"),
    "pool": ('layer { name: "p" type: "Pooling" bottom: "x0" top: "y" '
             "pooling_param { kernel_size: 2 pad: 2 } }", "pad"),
    "reshape": ('layer { name: "r" type: "Reshape" bottom: "x0" top: "y" '
                "reshape_param { shape { dim: 7 dim: -1 } } }", "cannot turn"),
    "slice": ('layer { name: "s" type: "Slice" bottom: "x0" top: "a" top: "b" '
              "slice_param { slice_point: 8 } }", "cannot cut"),
    "priors": ('layer { name: "p" type: "PriorBox" bottom: "x0" bottom: "x0" top: "y" '
               "prior_box_param { min_size: -1 } }", "not positive"),
    "no shape": ('layer { name: "d" type: "Data" top: "d" }', "deploy prototxt"),
    "no bottom": ('layer { name: "r" type: "ReLU" top: "y" }', "no bottom"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_network_is_named(tmp_path: Path, name: str) -> None:
    text, message = BAD[name]
    whole = cf.net(text, (1, 3, 8, 8)) if name not in ("text", "empty") else text
    with pytest.raises(ModelError, match=message):
        cf.load(tmp_path, whole, weights())


@pytest.mark.parametrize("extra", ["", "lstm_param { num_output: 3 }"])
def test_unknown_layer_names_layer_and_type(tmp_path: Path, extra: str) -> None:
    text = f'layer {{ name: "memory" type: "LSTM" bottom: "x0" top: "y" {extra} }}'
    with pytest.raises(UnsupportedError, match="'memory' has type 'LSTM'"):
        cf.load(tmp_path, cf.net(text, (1, 3, 8, 8)))


@pytest.mark.parametrize("shape", [(1 << 40, 3, 8, 8), (1, -3, 8, 8), (0, 3, 8, 8), (1,) * 40])
def test_impossible_input_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="'x0'"):
        cf.load(tmp_path, cf.net(CONV, shape), weights())


def test_sizes_without_values_are_refused_before_they_are_allocated(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(cf.net(CONV, (1, 3, 8, 8)))
    huge = cf.field(7, cf.field(7, cf.field(1, cf.varint(1 << 50) * 2)))
    (tmp_path / "net.caffemodel").write_bytes(cf.field(100, cf.field(1, b"c") + huge))
    with pytest.raises(ModelError, match=r"not a \.caffemodel"):
        accel.load(tmp_path / "net.prototxt")


def test_damaged_weights_never_crash(tmp_path: Path, rng: np.random.Generator) -> None:
    cf.load(tmp_path, cf.net(CONV, (1, 3, 8, 8)), {"c": weights()["c"]})
    path = tmp_path / "net.caffemodel"
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError):
            accel.load(path)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 80), 2):
            damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        attempt(path)


def test_damaged_network_never_crashes(tmp_path: Path, rng: np.random.Generator) -> None:
    text = cf.net(CONV + '\nlayer { name: "p" type: "Pooling" bottom: "y" top: "z" '
                  "pooling_param { kernel_size: 2 stride: 2 } }", (1, 3, 8, 8))  # fmt: skip
    cf.load(tmp_path, text, weights())
    path = tmp_path / "net.prototxt"
    for _ in range(300):
        damaged = bytearray(text.encode())
        for place in rng.integers(0, len(damaged), 2):
            damaged[place] = int(rng.integers(32, 127))
        path.write_bytes(damaged)
        attempt(path)


def attempt(path: Path) -> None:
    """Load: a model, or an error of our own; anything else fails the test."""
    try:
        accel.load(path)
    except AccelError as err:
        assert str(err)
