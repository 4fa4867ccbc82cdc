"""Keras: an .h5 or .keras file to a graph, without Keras. The configuration is JSON, the weights
lie in HDF5; nothing stored in the file is executed.

`.h5` (Keras 2 and the legacy form of Keras 3) holds both in one HDF5 file, weights by layer name.
`.keras` is a zip of config.json and model.weights.h5, weights by class name and count.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from accel.errors import AccelError, DeviceError, ModelError, UnsupportedError
from accel.importers.builder import MAX_ELEMENTS, GraphBuilder
from accel.importers.files import MAX_MODEL_BYTES
from accel.importers.keras_layers import LAYERS, Layer, Tensor

MAX_JSON_BYTES = 64 << 20
MAX_LAYERS = 10_000

Array = np.ndarray[Any, Any]
Key = tuple[str, int, int]  # layer, which of its calls, which of the call's outputs


def import_keras(path: Path) -> ir.Model:
    """Read a Keras model.

    Raises
    ------
    ModelError
        Truncated, corrupt, or weights alone without a network.
    UnsupportedError
        A layer of a type that is not known.
    DeviceError
        h5py is not installed.
    """
    source = str(path)
    try:
        if zipfile.is_zipfile(path):
            config, weights = _read_keras(path)
        else:
            config, weights = _read_h5(path)
        return _Network(config, weights, source).build()
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError,
            zipfile.BadZipFile, RecursionError, MemoryError) as err:  # fmt: skip
        if isinstance(err, AccelError):
            raise
        raise ModelError(
            f"cannot read {source!r}: not a Keras model, or damaged ({type(err).__name__}: {err})"
        ) from None


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise DeviceError(
            "Keras files need h5py, which is not installed; pip install 'lwaccel[keras]'"
        ) from None
    return h5py


def _read_h5(path: Path) -> tuple[Any, dict[str, list[Array]]]:
    with _h5py().File(path, "r") as file:
        text = file.attrs.get("model_config")
        if text is None:
            raise ModelError(
                f"cannot read {str(path)!r}: weights without a network; save the whole model "
                "with model.save(...)"
            )
        config = _parse_json(text)
        config["keras_version"] = _text(file.attrs.get("keras_version", b"2"))
        groups = file["model_weights"]
        weights = {}
        for name in map(str, groups):
            names = groups[name].attrs.get("weight_names", [])
            weights[name] = [_array(groups[name][_text(n)]) for n in names]
        return config, weights


def _read_keras(path: Path) -> tuple[Any, dict[str, list[Array]]]:
    with zipfile.ZipFile(path) as archive:
        config = _parse_json(_member(archive, "config.json", MAX_JSON_BYTES))
        config["keras_version"] = "3"
        data = _member(archive, "model.weights.h5", MAX_MODEL_BYTES)
    counts: dict[str, int] = {}
    weights = {}
    with _h5py().File(io.BytesIO(data), "r") as file:
        for layer in _layers(config):
            kind = _snake(str(layer["class_name"]))
            counts[kind] = counts.get(kind, -1) + 1
            group = f"layers/{kind}_{counts[kind]}" if counts[kind] else f"layers/{kind}"
            variables = file.get(f"{group}/vars", {})
            own = [_array(variables[str(i)]) for i in range(len(variables))]
            weights[str(layer["config"]["name"])] = own
    return config, weights


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    with archive.open(name) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ModelError(f"{archive.filename!r}: {name} unpacks to more than {limit} bytes")
    return data


def _parse_json(text: Any) -> dict[str, Any]:
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"a configuration of {len(text)} bytes; at most {MAX_JSON_BYTES}")
    found = json.loads(text)
    if not isinstance(found, dict) or "config" not in found:
        raise ValueError("the configuration describes no model")
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _array(dataset: Any) -> Array:
    if prod(dataset.shape) > MAX_ELEMENTS or dataset.dtype.kind not in "fiu":
        raise ValueError(f"a weight of shape {dataset.shape} and dtype {dataset.dtype}")
    return np.asarray(dataset[()], np.float32)


def _snake(name: str) -> str:
    """Keras's name of a class inside a weights file: ``depthwise_conv2d``."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _layers(config: dict[str, Any]) -> list[Any]:
    inner = config["config"]
    layers = inner if isinstance(inner, list) else inner["layers"]  # old Sequential: a bare list
    if len(layers) > MAX_LAYERS:
        raise ValueError(f"{len(layers)} layers; at most {MAX_LAYERS}")
    return list(layers)


class _Network:
    """The network while it is read."""

    def __init__(
        self, config: dict[str, Any], weights: dict[str, list[Array]], source: str
    ) -> None:
        self._config, self._weights, self._source = config, weights, source
        self._graph = GraphBuilder(source)
        self._tensors: dict[Key, Tensor] = {}
        self._newer = not str(config["keras_version"]).startswith(("1", "2"))

    def build(self) -> ir.Model:
        kind = self._config.get("class_name")
        if kind == "Sequential":
            outputs = [self._run_sequence()]
        elif kind in ("Functional", "Model"):
            outputs = self._run_graph()
        else:
            raise UnsupportedError(
                f"model {self._source!r} is a {kind!r}; expected a Functional or Sequential model "
                "(a subclassed model stores no network: export it to ONNX or SavedModel)"
            )
        for key in outputs:
            y = self._tensors[key]
            name = key[0] if key[2] == 0 else f"{key[0]}_{key[2]}"
            self._graph.output(name, y.as_keras(self._graph))
        return self._graph.build()

    def _run_sequence(self) -> Key:
        previous: Key | None = None
        for i, layer in enumerate(_layers(self._config)):
            own = layer["config"]
            name = str(own.get("name", f"layer_{i}"))
            if layer["class_name"] != "InputLayer":
                if previous is None:
                    inner = self._config["config"]
                    built = inner.get("build_input_shape") if isinstance(inner, dict) else None
                    shape = own.get("batch_input_shape") or built
                    previous = self._add_input(f"{name}_input", shape, "float32")
                self._call(layer, name, 0, [self._tensors[previous]])
                previous = (name, 0, 0)
            else:
                previous = self._add_input(name, _input_shape(own), own.get("dtype", "float32"))
        if previous is None:
            raise ValueError("a Sequential model without layers")
        return previous

    def _run_graph(self) -> list[Key]:
        waiting = []
        for layer in _layers(self._config):
            name, own = str(layer["name"]), layer["config"]
            if layer["class_name"] == "InputLayer":
                self._add_input(name, _input_shape(own), own.get("dtype", "float32"))
            for i, node in enumerate(layer["inbound_nodes"]):
                waiting.append((layer, name, i, list(_references(node))))
        while waiting:
            ready = [w for w in waiting if all(key in self._tensors for key in w[3])]
            if not ready:
                raise ModelError(
                    f"model {self._source!r}: layer {waiting[0][1]!r} reads {waiting[0][3]}, "
                    "which nothing makes: a cycle, or a missing layer"
                )
            for layer, name, i, keys in ready:
                self._call(layer, name, i, [self._tensors[k] for k in keys])
            done = {(name, i) for _, name, i, _ in ready}
            waiting = [w for w in waiting if (w[1], w[2]) not in done]
        return list(_references(self._config["config"]["output_layers"]))

    def _call(self, layer: Any, name: str, call: int, inputs: list[Tensor]) -> None:
        kind = str(layer["class_name"])
        if kind not in LAYERS:
            raise UnsupportedError(
                f"model {self._source!r}: layer {name!r} has type {kind!r}, which the Keras "
                "importer does not know; export the model to ONNX or SavedModel"
            )
        weights = self._weights.get(name, [])
        made = Layer(self._graph, name, kind, layer["config"], inputs, weights, self._newer)
        self._tensors[(name, call, 0)] = LAYERS[kind](made)

    def _add_input(self, name: str, shape: Any, dtype: Any) -> Key:
        if not isinstance(shape, list) or not 1 <= len(shape) <= 5:
            raise ModelError(f"model {self._source!r}: input {name!r} has shape {shape!r}")
        dims = tuple(None if d is None else int(d) for d in shape)
        if any(d is not None and d < 1 for d in dims) or prod(d or 1 for d in dims) > MAX_ELEMENTS:
            raise ModelError(f"model {self._source!r}: input {name!r} has shape {dims}")
        if dtype not in ("float32", "float64", "float16", None):
            raise UnsupportedError(
                f"model {self._source!r}: input {name!r} is {dtype!r}; expected float32"
            )
        free = [d if d is not None else f"{name}_{i}" if i else "N" for i, d in enumerate(dims)]
        value = self._graph.input(self._graph.unique(name), free)
        self._tensors[(name, 0, 0)] = Tensor.from_keras(self._graph, value, dims)
        return name, 0, 0


def _input_shape(own: dict[str, Any]) -> Any:
    return own.get("batch_input_shape") or own.get("batch_shape")


def _references(node: Any, depth: int = 0) -> Iterator[Key]:
    """Tensors that a node names, in order: [layer, call, output, ...] in Keras 2, ``keras_history``
    in Keras 3."""
    if depth > 20:
        raise ValueError("references nest too deeply")
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            yield from _references(node["config"]["keras_history"], depth + 1)
        else:
            for key in ("args", "kwargs"):
                yield from _references(node.get(key), depth + 1)
            if not {"args", "kwargs"} & set(node):
                for value in node.values():
                    yield from _references(value, depth + 1)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and all(type(v) is int for v in node[1:3]):
            yield node[0], node[1], node[2]
            node = node[3:]
        for value in node:
            yield from _references(value, depth + 1)
