"""Keras's two kinds of file: configuration and weights, without what they mean.

`.h5` (Keras 2 and the legacy form of Keras 3) holds both in one HDF5 file, weights by layer name.
`.keras` is a zip of config.json and model.weights.h5, weights by class name and count.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from accel.errors import DeviceError, ModelError, UnsupportedError
from accel.importers.builder import MAX_ELEMENTS
from accel.importers.files import MAX_MODEL_BYTES

MAX_JSON_BYTES = 64 << 20
MAX_LAYERS = 10_000
MAX_DEPTH = 8  # of models inside models
MODELS = ("Functional", "Model", "Sequential")

Array = np.ndarray[Any, Any]


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise DeviceError(
            "Keras files need h5py, which is not installed; pip install 'lwaccel[keras]'"
        ) from None
    return h5py


def read_h5(path: Path) -> tuple[Any, dict[str, list[Array]]]:
    """Configuration, and weights by layer name, of an .h5 file."""
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
        weights: dict[str, list[Array]] = {}
        for layer in layers_of(config):
            name = str(layer["config"]["name"])
            if name in groups:
                inner = layer["class_name"] in MODELS
                weights.update(_layer_weights(groups[name], name, inner))
        return config, weights


def _layer_weights(group: Any, name: str, inner: bool) -> dict[str, list[Array]]:
    """Weights of a layer; those of a model inside by ``model/layer``, as their names tell."""
    found: dict[str, list[Array]] = {}
    homes: dict[str, str] = {}
    for stored in _weight_names(group):
        home = stored.rpartition("/")[0]
        key = f"{name}/{home.rpartition('/')[2]}" if inner else name
        if homes.setdefault(key, home) != home and inner:
            raise UnsupportedError(f"{key!r} is the name of two layers; save the model as .keras")
        found.setdefault(key, []).append(_array(group[stored]))
    return found


def _weight_names(group: Any) -> list[str]:
    """Names in order; long lists are kept in numbered parts."""
    keys = ["weight_names"] if "weight_names" in group.attrs else []
    while not keys or keys[0] != "weight_names":
        part = f"weight_names{len(keys)}"
        if part not in group.attrs:
            break
        keys.append(part)
    return [_text(n) for key in keys for n in group.attrs[key]]


def read_keras(path: Path) -> tuple[Any, dict[str, list[Array]]]:
    """Configuration, and weights by layer name, of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        config = _parse_json(_member(archive, "config.json", MAX_JSON_BYTES))
        config["keras_version"] = "3"
        data = _member(archive, "model.weights.h5", MAX_MODEL_BYTES)
    weights: dict[str, list[Array]] = {}
    with _h5py().File(io.BytesIO(data), "r") as file:
        _collect(file, layers_of(config), "", weights)
    return config, weights


def _collect(group: Any, layers: list[Any], path: str, weights: dict[str, list[Array]]) -> None:
    """Weights of these layers by ``model/.../layer``; a layer lies under its class and count."""
    if path.count("/") > MAX_DEPTH:
        raise ValueError(f"models inside models deeper than {MAX_DEPTH}")
    counts: dict[str, int] = {}
    for layer in layers:
        kind, name = _snake(str(layer["class_name"])), path + str(layer["config"]["name"])
        counts[kind] = counts.get(kind, -1) + 1
        own = group.get(f"layers/{kind}_{counts[kind]}" if counts[kind] else f"layers/{kind}")
        if own is None:
            continue
        if layer["class_name"] in MODELS:
            _collect(own, layers_of(layer), f"{name}/", weights)
        else:
            variables = own.get("vars", {})
            weights[name] = [_array(variables[str(i)]) for i in range(len(variables))]


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


def layers_of(config: dict[str, Any]) -> list[Any]:
    """The layers of a configuration, in the file's order."""
    inner = config["config"]
    layers = inner if isinstance(inner, list) else inner["layers"]  # old Sequential: a bare list
    if len(layers) > MAX_LAYERS:
        raise ValueError(f"{len(layers)} layers; at most {MAX_LAYERS}")
    return list(layers)
