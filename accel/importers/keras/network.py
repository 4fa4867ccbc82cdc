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
from accel.importers.keras.files import MAX_DEPTH, MODELS, layers_of, read_h5, read_keras
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
    """What the models of a file share: the graph, the weights, the inputs."""

    def __init__(
        self, config: dict[str, Any], weights: dict[str, list[Array]], source: str
    ) -> None:
        self.weights, self.source = weights, source
        self.graph = GraphBuilder(source)
        self.newer = not str(config["keras_version"]).startswith(("1", "2"))
        self._config = config

    def build(self) -> ir.Model:
        kind = self._config.get("class_name")
        if kind not in MODELS:
            raise UnsupportedError(
                f"model {self.source!r} is a {kind!r}; expected a Functional or Sequential model "
                "(a subclassed model stores no network: export it to ONNX or SavedModel)"
            )
        for key, y in _Model(self, self._config, "", None).run():
            name = key[0] if key[2] == 0 else f"{key[0]}_{key[2]}"
            self.graph.output(name, y.as_keras(self.graph))
        return self.graph.build()

    def add_input(self, name: str, shape: Any, dtype: Any) -> Tensor:
        if not isinstance(shape, list) or not 1 <= len(shape) <= 5:
            raise ModelError(f"model {self.source!r}: input {name!r} has shape {shape!r}")
        dims = tuple(None if d is None else int(d) for d in shape)
        if any(d is not None and d < 1 for d in dims) or prod(d or 1 for d in dims) > MAX_ELEMENTS:
            raise ModelError(f"model {self.source!r}: input {name!r} has shape {dims}")
        if dtype not in ("float32", "float64", "float16", None):
            raise UnsupportedError(
                f"model {self.source!r}: input {name!r} is {dtype!r}; expected float32"
            )
        free = [d if d is not None else f"{name}_{i}" if i else "N" for i, d in enumerate(dims)]
        value = self.graph.input(self.graph.unique(name), free)
        return Tensor.from_keras(self.graph, value, dims)

    def weights_of(self, path: str) -> list[Array]:
        """Weights of a layer; an .h5 file leaves out the models between first and last."""
        outer, _, _ = path.partition("/")
        inner = path.rpartition("/")[2]
        return self.weights.get(path, self.weights.get(f"{outer}/{inner}", []))


class _Model:
    """One model while it is run: the file's own, or one that a layer of it is.

    Parameters
    ----------
    path : names of the models around, each with a slash behind it.
    inputs : what the model is called on; None makes inputs of the graph.
    """

    def __init__(
        self, network: _Network, config: dict[str, Any], path: str, inputs: list[Tensor] | None
    ) -> None:
        if path.count("/") > MAX_DEPTH:
            raise ValueError(f"models inside models deeper than {MAX_DEPTH}")
        self._network, self._config, self._path = network, config, path
        self._given = None if inputs is None else list(inputs)
        self._tensors: dict[Key, Tensor] = {}

    def run(self) -> list[tuple[Key, Tensor]]:
        """The model's outputs."""
        sequence = self._config["class_name"] == "Sequential"
        keys = [self._run_sequence()] if sequence else self._run_graph()
        return [(key, self._tensors[key]) for key in keys]

    def _run_sequence(self) -> Key:
        previous: Key | None = None
        for i, layer in enumerate(layers_of(self._config)):
            own = layer["config"]
            name = str(own.get("name", f"layer_{i}"))
            if layer["class_name"] == "InputLayer":
                self._add_input(name, _input_shape(own), own.get("dtype", "float32"))
            else:
                if previous is None:
                    inner = self._config["config"]
                    built = inner.get("build_input_shape") if isinstance(inner, dict) else None
                    previous = (f"{name}_input", 0, 0)
                    self._add_input(previous[0], own.get("batch_input_shape") or built, "float32")
                self._call(layer, name, 0, [self._tensors[previous]])
            previous = (name, 0, 0)
        if previous is None:
            raise ValueError("a Sequential model without layers")
        return previous

    def _run_graph(self) -> list[Key]:
        waiting = []
        layers = {str(layer["name"]): layer for layer in layers_of(self._config)}
        inputs = [key[0] for key in _references(self._config["config"].get("input_layers", []))]
        inputs += [n for n, la in layers.items() if la["class_name"] == "InputLayer"]
        for name in dict.fromkeys(inputs):
            own = layers[name]["config"]
            self._add_input(name, _input_shape(own), own.get("dtype", "float32"))
        for name, layer in layers.items():
            for i, node in enumerate(layer["inbound_nodes"]):
                waiting.append((layer, name, i, list(_references(node))))
        outputs = list(_references(self._config["config"]["output_layers"]))
        reads, outputs = self._counted(layers, [w[3] for w in waiting], outputs)
        waiting = [(*w[:3], keys) for w, keys in zip(waiting, reads, strict=True)]
        while waiting:
            ready = [w for w in waiting if all(key in self._tensors for key in w[3])]
            if not ready:
                raise ModelError(
                    f"model {self._network.source!r}: layer {waiting[0][1]!r} reads "
                    f"{waiting[0][3]}, which nothing makes: a cycle, or a missing layer"
                )
            for layer, name, i, keys in ready:
                self._call(layer, name, i, [self._tensors[k] for k in keys])
            done = {(name, i) for _, name, i, _ in ready}
            waiting = [w for w in waiting if (w[1], w[2]) not in done]
        return outputs

    def _counted(
        self, layers: dict[str, Any], reads: list[list[Key]], outputs: list[Key]
    ) -> tuple[list[list[Key]], list[Key]]:
        """References with calls counted from 0. Of a layer that is a model, Keras may count its
        making as the first call: Keras 2 everywhere, Keras 3 where it names outputs."""
        models = {n for n, layer in layers.items() if layer["class_name"] in MODELS}
        if self._network.newer:
            first = {n: 1 for n in models if layers[n]["class_name"] != "Sequential"}
            return reads, [_shifted(key, first) for key in outputs]
        first = {}
        for name, call, _ in [*outputs, *(key for keys in reads for key in keys)]:
            if name in models:
                first[name] = min(call, first.get(name, call))
        shifted = [[_shifted(key, first) for key in keys] for keys in reads]
        return shifted, [_shifted(key, first) for key in outputs]

    def _add_input(self, name: str, shape: Any, dtype: Any) -> None:
        if self._given is None:
            self._tensors[(name, 0, 0)] = self._network.add_input(name, shape, dtype)
        elif self._given:
            self._tensors[(name, 0, 0)] = self._given.pop(0)
        else:
            raise ValueError(f"{self._path[:-1]!r} is called on too few inputs")

    def _call(self, layer: Any, name: str, call: int, inputs: list[Tensor]) -> None:
        kind, path, network = str(layer["class_name"]), self._path + name, self._network
        if kind in MODELS:
            made = [y for _, y in _Model(network, layer, f"{path}/", inputs).run()]
        elif kind in LAYERS:
            weights, config = network.weights_of(path), layer["config"]
            one = Layer(network.graph, path, kind, config, inputs, weights, network.newer)
            made = [LAYERS[kind](one)]
        else:
            raise UnsupportedError(
                f"model {network.source!r}: layer {path!r} has type {kind!r}, which the Keras "
                "importer does not know; export the model to ONNX or SavedModel"
            )
        for i, tensor in enumerate(made):
            self._tensors[(name, call, i)] = tensor


def _shifted(key: Key, first: dict[str, int]) -> Key:
    return key[0], key[1] - first.get(key[0], 0), key[2]


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
