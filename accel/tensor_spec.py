"""TensorSpec: name, shape and dtype of an input or output; and the shapes a caller fixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from accel.errors import ModelError

MAX_BATCH = 65_536
MAX_ELEMENTS = 1 << 28  # a file may claim any size; memory is taken for what passes


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (None where a dimension is free) and dtype of an input or output."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


def fix_shapes(
    model: str,
    inputs: Sequence[TensorSpec],
    batch_size: int | None,
    shapes: Mapping[str, Sequence[int]] | None,
) -> dict[str, tuple[int, ...]]:
    """Full shapes of `inputs`, see `Model.fixed_shapes`; `model` is its name, for messages."""
    unknown = set(shapes or {}) - {s.name for s in inputs}
    if unknown:
        raise ModelError(
            f"model {model!r}: shapes names {sorted(unknown)}; "
            f"inputs are {[s.name for s in inputs]}"
        )
    return {spec.name: _fixed(model, spec, batch_size, shapes or {}) for spec in inputs}


def _fixed(
    model: str, spec: TensorSpec, batch_size: int | None, shapes: Mapping[str, Sequence[int]]
) -> tuple[int, ...]:
    dims = list(spec.shape)
    if spec.name in shapes:
        dims = _narrowed(model, spec, shapes[spec.name])
    if dims and dims[0] is None:
        dims[0] = batch_size or 1
    if any(d is None for d in dims):
        raise ModelError(
            f"model {model!r}: input {spec.name!r} has free dimensions {spec.shape}; only the "
            f"first may be free. Pass compile(..., shapes={{{spec.name!r}: (1, ...)}})"
        )
    if any(d is not None and d < (have != 0) for d, have in zip(dims, spec.shape, strict=True)):
        raise ModelError(
            f"model {model!r}: input {spec.name!r} has shape {tuple(dims)}; every dimension must "
            "be positive, unless the file fixes it at 0"
        )
    fixed = tuple(d for d in dims if d is not None)
    if prod(fixed) > MAX_ELEMENTS or (len(fixed) > 2 and fixed[0] > MAX_BATCH):
        raise ModelError(
            f"model {model!r}: input {spec.name!r} has shape {fixed}; expected at most "
            f"{MAX_BATCH} rows and {MAX_ELEMENTS} elements"
        )
    return fixed


def _narrowed(model: str, spec: TensorSpec, given: Sequence[int]) -> list[int | None]:
    """The shape a caller gives, checked against the dimensions that the file fixes."""
    fits = len(given) == len(spec.shape) and all(
        have is None or have == want for have, want in zip(spec.shape, given, strict=True)
    )
    if not fits:
        raise ModelError(
            f"model {model!r}: shapes gives {tuple(given)} for input {spec.name!r}; "
            f"expected {tuple('any' if d is None else d for d in spec.shape)}"
        )
    return [int(d) for d in given]
