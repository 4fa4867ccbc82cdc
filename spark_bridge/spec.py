"""What one query computes: everything a task needs to know, small enough for a closure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import accel
from accel.detection.spec import DetectorSpec
from accel.images import ImageChain
from spark_bridge.settings import Settings
from spark_bridge.ship import ModelRef

KINDS = ("image", "path", "tensor")
TASKS = ("classify", "classes", "features", "array", "detect", "raw")


@dataclass(frozen=True)
class Spec:
    """A query, checked on the driver.

    Attributes
    ----------
    model : the shipped model.
    kind : "image" decodes JPEG, PNG and so on; "path" reads such files first; "tensor" takes
        numbers as they are.
    task : one of `TASKS`: which result a row gets.
    columns : name of each model input to the column (or field) that feeds it.
    inputs : name of each model input to the shape (without batch) and dtype of one row.
    output : name of the column of results.
    top_k : classes listed by "classify".
    labels : name of each class, or None.
    codes : identifier of each class, or None where its number is all there is.
    is_score : whether the first output still needs softmax to be probabilities.
    chain : makes an image of any size one of the model's size; None takes exact sizes only.
    settings : backend, batches, threads, limits.
    meta : whether the result says how each row was computed.
    detector : how boxes are found, for "detect".
    min_score : score that a box must pass; None keeps the model's.
    """

    model: ModelRef
    kind: str
    task: str
    columns: Mapping[str, str]
    inputs: Mapping[str, accel.TensorSpec]
    output: str
    top_k: int
    labels: tuple[str, ...] | None
    codes: tuple[str, ...] | None
    is_score: bool
    chain: ImageChain | None
    settings: Settings
    meta: bool = False
    detector: DetectorSpec | None = None
    min_score: float | None = None
