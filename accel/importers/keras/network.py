"""Keras: an .h5 or .keras file to a graph, without Keras; nothing stored in it is executed."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from accel.errors import AccelError, ModelError, UnsupportedError
from accel.importers.builder import MAX_ELEMENTS, GraphBuilder
from accel.importers.keras.files import layers_of, read_h5, read_keras
from accel.importers.keras.layer import Layer, Tensor
from accel.importers.keras.layers import LAYERS

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
            config, weights = read_keras(path)
        else:
            config, weights = read_h5(path)
        return _Network(config, weights, source).build()
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError,
            zipfile.BadZipFile, RecursionError, MemoryError) as err:  # fmt: skip
        if isinstance(err, AccelError):
            raise
        raise ModelError(
            f"cannot read {source!r}: not a Keras model, or damaged ({type(err).__name__}: {err})"
        ) from None


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
        for i, layer in enumerate(layers_of(self._config)):
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
        for layer in layers_of(self._config):
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
