"""Caffe: a .prototxt (the network) and a .caffemodel (its weights) to a graph.

The network is read as Caffe's TEST phase would; loss and accuracy layers are dropped. The batch
becomes free where every layer treats images alone.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from accel.errors import ModelError
from accel.importers.builder import MAX_ELEMENTS, GraphBuilder
from accel.importers.caffe.layer import MAX_RANK, Blob, Layer
from accel.importers.caffe.layers import LAYERS
from accel.importers.caffe.schema import layer_type, parse_prototxt, unknown_layer
from accel.importers.caffe.weights import read_caffemodel
from accel.importers.files import read_file

MAX_LAYERS = 10_000

Array = np.ndarray[Any, Any]

# layers that only training or reporting needs
DROPPED = {
    "Accuracy", "ContrastiveLoss", "DetectionEvaluate", "EuclideanLoss", "HDF5Output", "HingeLoss",
    "InfogainLoss", "MultiBoxLoss", "MultinomialLogisticLoss", "Silence",
    "SigmoidCrossEntropyLoss", "SmoothL1Loss", "SoftmaxWithLoss",
}  # fmt: skip


class Network:
    """The network while it is read."""

    def __init__(self, message: Any, weights: dict[str, list[Array]], source: str) -> None:
        self.source = source
        self.graph = GraphBuilder(source)
        self.fixed_batch = False
        self._message, self._weights = message, weights
        self._blobs: dict[str, Blob] = {}
        self._inputs: dict[str, tuple[int, ...]] = {}
        self._unread: dict[str, None] = {}  # an ordered set

    def build(self) -> ir.Model:
        """Lower every layer."""
        self._add_declared_inputs()
        layers = [*self._message.layers, *self._message.layer]
        if len(layers) > MAX_LAYERS:
            raise ModelError(
                f"model {self.source!r} has {len(layers)} layers; at most {MAX_LAYERS}"
            )
        for message in layers:
            kind = layer_type(message)
            if not _in_test_phase(message) or kind in DROPPED:
                continue
            if kind not in LAYERS and kind not in INPUTS:
                raise unknown_layer(message, self.source)
            layer = Layer(
                self, message, self._bottoms(message), self._weights.get(message.name, [])
            )
            if kind in INPUTS:
                self._add_inputs(layer)
            else:
                self._add_tops(layer, list(LAYERS[kind](layer)))
        return self._closed()

    def _add_declared_inputs(self) -> None:
        net = self._message
        shapes = [tuple(s.dim) for s in net.input_shape]
        if not shapes:
            shapes = [tuple(net.input_dim[i : i + 4]) for i in range(0, len(net.input_dim), 4)]
        if len(shapes) != len(net.input):
            raise ModelError(
                f"model {self.source!r} names {len(net.input)} inputs and gives {len(shapes)} "
                "shapes; expected one input_shape, or four input_dim, for each"
            )
        for name, shape in zip(net.input, shapes, strict=True):
            self._add_input(str(name), shape)

    def _add_input(self, name: str, shape: tuple[int, ...]) -> None:
        if not 1 <= len(shape) <= MAX_RANK or any(d < 1 for d in shape):
            raise ModelError(
                f"model {self.source!r}: input {name!r} has shape {shape}; expected 1 to "
                f"{MAX_RANK} positive sizes"
            )
        if prod(shape) > MAX_ELEMENTS or name in self._blobs:
            what = "is declared twice" if name in self._blobs else f"has shape {shape}: too large"
            raise ModelError(f"model {self.source!r}: input {name!r} {what}")
        self._inputs[name] = shape
        self._blobs[name] = Blob(self.graph.unique(name), shape)

    def _add_inputs(self, layer: Layer) -> None:
        shapes = INPUTS[layer.type](layer)
        for i, name in enumerate(layer.message.top):
            if layer.type == "Input" or i == 0:
                if not shapes:
                    raise layer.error("gives no input shape; use the network's deploy prototxt")
                self._add_input(str(name), shapes[min(i, len(shapes) - 1)])
            else:  # labels: an error where anything but a loss reads them
                self._blobs.pop(str(name), None)

    def _bottoms(self, message: Any) -> list[Blob]:
        found = []
        for name in message.bottom:
            if name not in self._blobs:
                raise ModelError(
                    f"model {self.source!r}: layer {message.name!r} reads {name!r}, which no "
                    "layer before it makes"
                )
            self._unread.pop(name, None)
            found.append(self._blobs[name])
        return found

    def _add_tops(self, layer: Layer, made: list[Blob]) -> None:
        names = [str(n) for n in layer.message.top]
        if len(names) != len(made):
            raise layer.error(f"has {len(names)} tops; expected {len(made)}")
        for name, blob in zip(names, made, strict=True):
            if name in self._blobs and name not in layer.message.bottom:
                raise layer.error(f"makes {name!r}, which a layer before it makes already")
            self._blobs[name] = blob
            self._unread[name] = None

    def _closed(self) -> ir.Model:
        batches = {shape[0] for shape in self._inputs.values()}
        free = not self.fixed_batch and len(batches) == 1
        for name, shape in self._inputs.items():
            dims: list[int | str | None] = [*shape]
            self.graph.input(name, ["N", *dims[1:]] if free else dims)
        for name in self._unread:
            self.graph.output(name, self._blobs[name].value)
        return self.graph.build()


def import_caffe(prototxt: Path, caffemodel: Path) -> ir.Model:
    """Read a Caffe network and its weights.

    Raises
    ------
    ModelError
        Truncated, corrupt, or the two files do not belong together.
    UnsupportedError
        A layer of a type that is not known.
    """
    supported = {*LAYERS, *INPUTS, *DROPPED}
    message = parse_prototxt(read_file(prototxt), str(prototxt), supported)
    weights = read_caffemodel(read_file(caffemodel), str(caffemodel))
    return Network(message, weights, str(prototxt)).build()


def _in_test_phase(message: Any) -> bool:
    if message.include:
        return any(_matches_test(rule) for rule in message.include)
    return not any(_matches_test(rule) for rule in message.exclude)


def _matches_test(rule: Any) -> bool:
    """Whether a rule holds in phase TEST, level 0, without stages."""
    names = rule.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_number
    return (
        (not rule.HasField("phase") or names[rule.phase].name == "TEST")
        and rule.min_level <= 0
        and (not rule.HasField("max_level") or rule.max_level >= 0)
        and not rule.stage
    )


def _input_shapes(layer: Layer) -> list[tuple[int, ...]]:
    return [tuple(s.dim) for s in layer.parameters("input").shape]


def _memory_shapes(layer: Layer) -> list[tuple[int, ...]]:
    p = layer.parameters("memory_data")
    return [(p.batch_size, p.channels, p.height, p.width)]


def _dummy_shapes(layer: Layer) -> list[tuple[int, ...]]:
    p = layer.parameters("dummy_data")
    old = list(zip(p.num, p.channels, p.height, p.width, strict=False))
    return [tuple(s.dim) for s in p.shape] or [tuple(s) for s in old]


def _cropped_shapes(layer: Layer) -> list[tuple[int, ...]]:
    transform = layer.message.transform_param
    side = transform.crop_size or layer.parameters("data").crop_size
    return [(1, 1 if transform.force_gray else 3, side, side)] if side else []


# layers that bring data in; each gives the shapes of its tops as far as the file tells them
INPUTS = {
    "Input": _input_shapes,
    "MemoryData": _memory_shapes,
    "DummyData": _dummy_shapes,
    "Data": _cropped_shapes,
    "ImageData": _cropped_shapes,
    "WindowData": _cropped_shapes,
    "HDF5Data": _cropped_shapes,
}
