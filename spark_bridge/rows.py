"""One value of a row to the arrays the model takes, or a RowError that says why not.

A bad value is data, not a fault of the program: a null, an empty or truncated file, a picture
that claims billions of pixels, an array of another length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

import accel
from accel.errors import ImageError, InputError
from accel.images import ImageChain, decode
from spark_bridge.settings import Settings

Array = npt.NDArray[Any]
Row = dict[str, Array]
CODES = (
    "NULL_INPUT", "SHAPE", "BACKEND", "NATIVE_CRASH",
    "EMPTY", "UNREADABLE", "TOO_LARGE", "TOO_MANY_PIXELS", "TOO_SMALL", "DECODE",
)  # fmt: skip


@dataclass(eq=False)
class RowError(Exception):
    """What is wrong with one row.

    Attributes
    ----------
    code : one of `CODES`; those from EMPTY on are an ImageError's.
    stage : "read", "decode", "prepare" or "infer": how far the row came.
    message : a sentence for a person.
    """

    code: str
    stage: str
    message: str

    def __str__(self) -> str:
        return f"{self.code} at {self.stage}: {self.message}"


Item = TypeVar("Item")
Made = TypeVar("Made")


def over_good(
    items: Sequence[Item | RowError], work: Callable[[list[Item]], Iterable[Made | RowError]]
) -> list[Made | RowError]:
    """What `work` makes of the items that are no error, each error left in its place."""
    made = iter(work([item for item in items if not isinstance(item, RowError)]))
    return [item if isinstance(item, RowError) else next(made) for item in items]


def image_row(
    value: object, spec: accel.TensorSpec, chain: ImageChain | None, settings: Settings
) -> Array:
    """Decode an image and fit it to the model.

    Parameters
    ----------
    value : bytes of an image file, or a decoded uint8 (H, W, C) array.
    spec : uint8, shape (H, W, C) with C of 1 or 3; None where the model takes any.
    chain : applied to the decoded image.

    Returns
    -------
    uint8 (H, W, C), maybe a view; grey where the model takes one channel.

    Raises
    ------
    RowError
    """
    image = _decoded(value, settings, exif=chain is None or chain.exif)
    try:
        fitted = chain.view(image) if chain is not None else image
    except ImageError as err:
        raise RowError(err.code, "prepare", str(err)) from None
    except InputError as err:
        raise RowError("SHAPE", "prepare", str(err)) from None
    if spec.shape[-1] == 1 and fitted.shape[-1] == 3:
        fitted = grey(fitted)
    return _checked(fitted, spec, "pass chain=ImageChain(resize=..., crop=...)")


def tensor_row(value: object, spec: accel.TensorSpec) -> Array:
    """Read numbers: raw little-endian bytes in C order, a flat list, or an array.

    Raises
    ------
    RowError
    """
    if value is None:
        raise RowError("NULL_INPUT", "read", "the value is null")
    shape = tuple(d for d in spec.shape if d is not None)
    if isinstance(value, (bytes, bytearray, memoryview)):
        expected = math.prod(shape) * spec.dtype.itemsize
        if len(value) != expected:
            message = f"{len(value)} bytes; expected {expected} for {spec.dtype} {shape}"
            raise RowError("SHAPE", "prepare", message)
        return np.frombuffer(value, spec.dtype).reshape(shape)
    array = _numbers(value, spec.dtype)
    if array.ndim == 1 and array.size == math.prod(shape):
        array = array.reshape(shape)
    return _checked(array, spec, f"give {math.prod(shape)} values in C order")


def grey(image: Array) -> npt.NDArray[np.uint8]:
    """Luma of an RGB image: uint8 (H, W, 3) to (H, W, 1).

    The weights sum to 256, so an image whose channels are equal keeps its values exactly.
    Source: ITU-R BT.601-7, section 2.5.1, coefficients rounded to 1/256.
    """
    r, g, b = (image[..., c].astype(np.uint16) for c in range(3))  # the sum stays below 65536
    return ((77 * r + 150 * g + 29 * b + 128) >> 8).astype(np.uint8)[..., np.newaxis]


def _decoded(value: object, settings: Settings, exif: bool) -> Array:
    """uint8 (H, W, C) of an image in whatever form it came."""
    if value is None:
        raise RowError("NULL_INPUT", "read", "the value is null")
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or value.ndim != 3:
            message = f"{value.dtype} {value.shape}; expected a uint8 (H, W, C) image"
            raise RowError("SHAPE", "prepare", message)
        return value
    if not isinstance(value, (bytes, bytearray, memoryview)):
        message = f"{type(value).__name__}; expected the bytes of an image or a uint8 array"
        raise RowError("SHAPE", "read", message)
    try:
        limits = {"max_pixels": settings.max_pixels, "max_bytes": settings.max_bytes}
        return decode(bytes(value), **limits, exif=exif)
    except ImageError as err:
        raise RowError(err.code, "decode", str(err)) from None


def _numbers(value: object, dtype: np.dtype[Any]) -> Array:
    """An array of the model's dtype; only a change that keeps kind or widens it is made."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise RowError("SHAPE", "prepare", "rows of the nested list differ in length") from None
    if array.dtype == object or array.dtype.kind not in "fiub":
        message = f"{array.dtype} values; expected numbers without nulls"
        raise RowError("SHAPE", "prepare", message)
    with np.errstate(invalid="ignore"):
        cast = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(cast, array):
        raise RowError("SHAPE", "prepare", f"values of {array.dtype} do not fit {dtype}")
    return cast


def _checked(array: Array, spec: accel.TensorSpec, advice: str) -> Array:
    """The array, if it has the shape of one row of the model."""
    fits = array.ndim == len(spec.shape) and all(
        want is None or want == got for want, got in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        message = f"shape {array.shape}; input {spec.name!r} takes {spec.shape}: {advice}"
        raise RowError("SHAPE", "prepare", message)
    return array
