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

from accel.errors import DeviceError, ModelError
from accel.importers.builder import MAX_ELEMENTS
from accel.importers.files import MAX_MODEL_BYTES

MAX_JSON_BYTES = 64 << 20
MAX_LAYERS = 10_000

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
        weights = {}
        for name in map(str, groups):
            names = groups[name].attrs.get("weight_names", [])
            weights[name] = [_array(groups[name][_text(n)]) for n in names]
        return config, weights


def read_keras(path: Path) -> tuple[Any, dict[str, list[Array]]]:
    """Configuration, and weights by layer name, of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        config = _parse_json(_member(archive, "config.json", MAX_JSON_BYTES))
        config["keras_version"] = "3"
        data = _member(archive, "model.weights.h5", MAX_MODEL_BYTES)
    counts: dict[str, int] = {}
    weights = {}
    with _h5py().File(io.BytesIO(data), "r") as file:
        for layer in layers_of(config):
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


def layers_of(config: dict[str, Any]) -> list[Any]:
    """The layers of a configuration, in the file's order."""
    inner = config["config"]
    layers = inner if isinstance(inner, list) else inner["layers"]  # old Sequential: a bare list
    if len(layers) > MAX_LAYERS:
        raise ValueError(f"{len(layers)} layers; at most {MAX_LAYERS}")
    return list(layers)
