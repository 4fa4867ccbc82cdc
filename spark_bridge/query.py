"""Build a Spec on the driver: resolve settings, check every argument, ship the model.

All that can be wrong about a query is found here, before a job starts: an unknown or uninstalled
device, a model the device refuses, a task, a kind or labels that do not fit the model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import accel
from accel.errors import InputError
from accel.images import ImageChain
from spark_bridge.devices import chosen_backend
from spark_bridge.prepacked import MAPPED, ship_program
from spark_bridge.settings import resolve
from spark_bridge.ship import ModelLike, open_model, ship
from spark_bridge.spec import KINDS, TASKS, Spec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Labels = Sequence[str] | Sequence[tuple[str, str]]


def build_spec(
    spark: SparkSession,
    model: ModelLike,
    columns: str | Mapping[str, str],
    *,
    output: str = "prediction",
    kind: str | None = None,
    task: str = "classify",
    top_k: int = 1,
    labels: Labels | None = None,
    chain: ImageChain | None = None,
    meta: bool | None = None,
    min_score: float | None = None,
    **arguments: Any,
) -> Spec:
    """Check a query and ship its model.

    Parameters
    ----------
    columns : the column that feeds the model, or a dict of columns by model input.
    kind : one of `KINDS`; None takes "image" where the model takes uint8 (N, H, W, C).
    labels : the name of each class, or (identifier, name).
    min_score : for "detect".
    meta : whether results say how they were computed; None: where a fallback is allowed.
    **arguments : fields of Settings; None means "not given".

    Raises
    ------
    InputError, ModelError, DeviceError, UnsupportedError
        See the module.
    """
    _one_of("task", task, TASKS)
    opened = open_model(model)
    if chain is not None and chain.normalizes and not _takes_images(opened):
        opened = chain.fold(opened)
    takes_images = _takes_images(opened)
    kind = kind or ("image" if takes_images else "tensor")
    _one_of("kind", kind, KINDS)
    if kind != "tensor" and not takes_images:
        raise InputError(_no_images(opened))
    settings = resolve(spark, **arguments)
    if task == "detect":
        _check_detector(opened, kind, chain, min_score)
    if task in ("classify", "classes"):
        _check_classes(opened.outputs[0], top_k, labels)
    inputs = {i.name: _row_spec(i, chain) for i in opened.inputs}
    rows = tuple(inputs.values())
    settings = dataclasses.replace(settings, backend=chosen_backend(opened, settings, rows))
    if settings.backend in MAPPED:
        ship_program(spark, opened, settings, rows)
    return Spec(
        model=ship(spark, opened),
        kind=kind,
        task=task,
        columns=_feeds(columns, list(inputs)),
        inputs=inputs,
        output=output,
        top_k=top_k,
        labels=_column(labels, -1),
        codes=None if not labels or isinstance(labels[0], str) else _column(labels, 0),
        is_score=task == "classes" and not _ends_in_softmax(opened),
        chain=chain or (_default_chain(opened.inputs[0]) if kind != "tensor" else None),
        settings=settings,
        meta=bool(settings.fallback) if meta is None else meta,
        detector=opened.detector_spec if task == "detect" else None,
        min_score=min_score,
    )


def choose_device(spark: SparkSession, model: ModelLike, backend: str | None = None) -> str:
    """Name of the device a query on this model would use.

    "auto" is settled here, once, so that all workers use the same device.

    Raises
    ------
    DeviceError, ModelError, UnsupportedError
        The device is unknown or not installed, or refuses the model.
    """
    opened = open_model(model)
    rows = tuple(_row_spec(i, None) for i in opened.inputs)
    return chosen_backend(opened, resolve(spark, backend=backend), rows)


def _row_spec(spec: accel.TensorSpec, chain: ImageChain | None) -> accel.TensorSpec:
    """Shape of one row; a free height and width are those the chain leaves."""
    shape = spec.shape[1:]
    if chain is not None and len(shape) == 3 and shape[:2] == (None, None):
        fixed = (chain.crop, chain.crop) if chain.crop else chain.resize
        shape = (*fixed, shape[2]) if isinstance(fixed, tuple) else shape
    return accel.TensorSpec(spec.name, shape, spec.dtype)


def _takes_images(model: accel.Model) -> bool:
    if len(model.inputs) != 1:
        return False
    spec = model.inputs[0]
    return spec.dtype == np.uint8 and len(spec.shape) == 4 and spec.shape[3] in (1, 3)


def _no_images(model: accel.Model) -> str:
    given = ", ".join(f"{i.name} {i.dtype} {i.shape}" for i in model.inputs)
    return (
        f"model {model.name!r} takes {given}; images need one uint8 (N, H, W, C) input: "
        "fold the normalisation in with model.with_preprocessing(mean=, std=, scale=, order=), "
        'or pass kind="tensor"'
    )


def _feeds(columns: str | Mapping[str, str], inputs: Sequence[str]) -> dict[str, str]:
    """Column of each model input."""
    if isinstance(columns, str):
        if len(inputs) != 1:
            raise InputError(f"the model has inputs {list(inputs)}; give a column for each: "
                             "input={'<model input>': '<column>'}")  # fmt: skip
        return {inputs[0]: columns}
    if set(columns) != set(inputs):
        raise InputError(f"input names {sorted(columns)}; the model has {sorted(inputs)}")
    return {name: columns[name] for name in inputs}


def _check_detector(
    model: accel.Model, kind: str, chain: ImageChain | None, min_score: float | None
) -> None:
    """The model is a detector that frames images itself."""
    spec = model.detector_spec
    if spec is None:
        raise InputError(f"model {model.name!r} is no detector; make one of it with "
                         "model.as_detector(...) before quantize")  # fmt: skip
    if kind == "tensor" or None in model.inputs[0].shape[1:]:
        raise InputError(f"task 'detect' takes images, and a model of a fixed size; {model.name!r} "
                         f"takes {model.inputs[0].shape}, kind is {kind!r}")  # fmt: skip
    if chain is not None:
        raise InputError("a detector frames its images itself; leave out chain=")
    if min_score is not None:
        dataclasses.replace(spec, score=min_score)  # says what is wrong with it


def _column(labels: Labels | None, place: int) -> tuple[str, ...] | None:
    """The names or the identifiers of the classes."""
    if labels is None:
        return None
    return tuple(label if isinstance(label, str) else label[place] for label in labels)


def _ends_in_softmax(model: accel.Model) -> bool:
    """Whether the first output is made of probabilities, in whatever shape."""
    from accel import graph as g  # brings the ONNX libraries, which a worker does without

    node = model.graph().graph.outputs[0].producer()
    while g.is_op(node, "Reshape", "Flatten", "Squeeze", "Identity", "Cast"):
        assert node is not None and node.inputs[0] is not None
        node = node.inputs[0].producer()
    return g.is_op(node, "Softmax")


def _check_classes(output: accel.TensorSpec, top_k: int, labels: Labels | None) -> None:
    """The first output must hold one score for each class."""
    dims = output.shape[1:]
    classes = None if any(d is None for d in dims) else math.prod(d for d in dims if d)
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise InputError(f"top_k is {top_k!r}; expected a whole number of at least 1")
    if classes is not None and top_k > classes:
        raise InputError(f"top_k is {top_k}, but output {output.name!r} has {classes} classes")
    if labels is not None and classes is not None and len(labels) != classes:
        raise InputError(f"{len(labels)} labels, but output {output.name!r} has {classes} classes")


def _default_chain(spec: accel.TensorSpec) -> ImageChain | None:
    """Shorter side to the model's size, then the centre; whole image where not square."""
    height, width = spec.shape[1:3]
    if height is None or width is None:
        return None
    if height == width:
        return ImageChain(resize=height, crop=height)
    return ImageChain(resize=(height, width))


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"{name} is {value!r}; expected one of {', '.join(known)}")
