"""Weights of a .caffemodel: a walk over the protobuf wire format that takes only the blobs, so
that memory stays near the size of the file whatever the file claims.

Field numbers, from Caffe's published interface: a net holds layers in 100 (new) or 2 (old form); a
layer has its name in 1 (old: 4) and its blobs in 7 (old: 6); a blob has its data in 5 (float32)
or 8 (float64), its shape in 7 (``dim`` = 1) or as four sizes in 1 to 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from accel.errors import ModelError

MAX_FIELDS = 1 << 20  # of the layers and blobs of one file; large networks have thousands
MAX_RANK = 8

Array = np.ndarray[Any, Any]
Field = tuple[int, int, int | memoryview]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_caffemodel(data: bytes, source: str) -> dict[str, list[Array]]:
    """Read the weights of every layer.

    Returns
    -------
    Layer name to its blobs, float32, in the file's own shapes (old files pad with leading ones).

    Raises
    ------
    ModelError
        Truncated or corrupt.
    """
    found: dict[str, list[Array]] = {}
    try:
        for number, kind, value in _fields(memoryview(data)):
            if number in (2, 100) and kind == _BYTES and isinstance(value, memoryview):
                name, blobs = _layer(value, old=number == 2)
                if blobs:
                    found[name] = blobs
    except (IndexError, ValueError, UnicodeDecodeError) as err:
        raise ModelError(
            f"cannot read {source!r}: not a .caffemodel, or truncated ({err}); "
            f"got {len(data)} bytes"
        ) from None
    return found


def _fields(data: memoryview) -> Iterator[Field]:
    """Number, wire type and value of each field of a message."""
    position = count = 0
    while position < len(data):
        count += 1
        if count > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} fields in one message")
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        value: int | memoryview
        if kind == _VARINT:
            value, position = _varint(data, position)
        elif kind in (_BYTES, _FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
            if kind == _BYTES:
                size, position = _varint(data, position)
            if size > len(data) - position:
                raise ValueError(f"a field of {size} bytes where {len(data) - position} are left")
            value, position = data[position : position + size], position + size
        else:
            raise ValueError(f"wire type {kind} at byte {position}")
        if number == 0:
            raise ValueError(f"field number 0 at byte {position}")
        yield number, kind, value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift > 63:
            raise ValueError(f"an integer longer than 64 bits at byte {position}")


def _layer(data: memoryview, old: bool) -> tuple[str, list[Array]]:
    name, blobs = "", []
    name_field, blob_field = (4, 6) if old else (1, 7)
    for number, _, value in _fields(data):
        if number == name_field and isinstance(value, memoryview):
            name = bytes(value).decode("utf-8")
        elif number == blob_field and isinstance(value, memoryview):
            blobs.append(_blob(value))
    return name, blobs


def _blob(data: memoryview) -> Array:
    sizes, shape, parts = [0, 0, 0, 0], None, []
    for number, kind, value in _fields(data):
        if number in (1, 2, 3, 4) and isinstance(value, int):
            sizes[number - 1] = value
        elif number == 7 and isinstance(value, memoryview):
            shape = _shape(value)
        elif number in (5, 8) and isinstance(value, memoryview):
            wide = number == 8 if kind == _BYTES else kind == _FIXED64
            parts.append(np.frombuffer(value, "<f8" if wide else "<f4"))
    shape = sizes if shape is None and any(sizes) else shape or []
    values = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if len(shape) > MAX_RANK or prod(shape) != values.size:
        raise ValueError(f"a blob of shape {shape} with {values.size} values")
    return values.astype(np.float32).reshape(shape)


def _shape(data: memoryview) -> list[int]:
    shape: list[int] = []
    for number, _, value in _fields(data):
        if number != 1:
            continue
        if isinstance(value, int):
            shape.append(value)
            continue
        position = 0
        while position < len(value) and len(shape) <= MAX_RANK:
            size, position = _varint(value, position)
            shape.append(size)
    return shape
