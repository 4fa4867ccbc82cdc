"""Frozen dataclasses as JSON, with their arrays and bytes in a file beside it.

What is read back comes from outside: every value must have the type that its field declares, and
nothing but the classes named there is ever made.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, Protocol

import numpy as np

from accel.errors import ModelError

MAX_ITEMS = 1_000_000

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Store(Protocol):
    """Where arrays and bytes are kept."""

    def put(self, data: Bytes) -> int:
        """Keep some bytes; returns their number."""
        ...

    def get(self, number: Any) -> Bytes:
        """The bytes with this number, as they lie."""
        ...


def encode(value: Any, store: Store) -> Any:
    """Plain values for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name), store) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return {"at": store.put(data), "shape": list(value.shape), "dtype": value.dtype.str}
    if isinstance(value, bytes):
        return {"at": store.put(np.frombuffer(value, np.uint8))}
    if isinstance(value, np.dtype):
        return value.str
    if isinstance(value, dict):
        return {key: encode(v, store) for key, v in value.items()}
    if isinstance(value, tuple):
        return [encode(v, store) for v in value]
    return value


def decode(kind: Any, value: Any, store: Store) -> Any:
    """A value of the type `kind` from what `encode` gave.

    Raises
    ------
    ModelError
        The value does not fit the type.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(args, value, store)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _decode_record(kind, value, store)
    if kind is np.ndarray or origin is np.ndarray:
        return _decode_array(value, store)
    if kind is bytes:
        return store.get(_field(value, "at", dict)).tobytes()
    if kind is np.dtype or origin is np.dtype:
        return _dtype(value)
    if origin is dict:
        _check(isinstance(value, dict) and len(value) <= MAX_ITEMS, kind, value)
        return {key: decode(args[1], v, store) for key, v in value.items()}
    if origin is tuple:
        return _decode_tuple(kind, args, value, store)
    if kind is float and type(value) is int:
        return float(value)
    _check(type(value) is kind or (kind is type(None) and value is None), kind, value)
    return value


def _decode_union(args: tuple[Any, ...], value: Any, store: Store) -> Any:
    if value is None and type(None) in args:
        return None
    kinds = [a for a in args if a is not type(None)]
    if len(kinds) > 1:  # of records
        named = _field(value, "kind", dict)
        kinds = [k for k in kinds if k.__name__ == named]
        _check(bool(kinds), args, value)
    return decode(kinds[0], value, store)


def _decode_record(kind: type[Any], value: Any, store: Store) -> Any:
    _check(_field(value, "kind", dict) == kind.__name__, kind, value)
    hints = _hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    _check(set(value) == {"kind", *names}, kind, sorted(value))
    return kind(**{name: decode(hints[name], value[name], store) for name in names})


def _hints(kind: type[Any]) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind)
    return _HINTS[kind]


_HINTS: dict[type[Any], dict[str, Any]] = {}


def _decode_array(value: Any, store: Store) -> Any:
    data = store.get(_field(value, "at", dict))
    shape = decode(tuple[int, ...], _field(value, "shape", dict), store)
    dtype = _dtype(_field(value, "dtype", dict))
    fits = all(d >= 0 for d in shape) and math.prod(shape) * dtype.itemsize == data.nbytes
    _check(fits, np.ndarray, f"{shape} of {dtype} in {data.nbytes} bytes")
    return data.view(dtype).reshape(shape)


def _decode_tuple(kind: Any, args: tuple[Any, ...], value: Any, store: Store) -> Any:
    _check(isinstance(value, list) and len(value) <= MAX_ITEMS, kind, value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(decode(args[0], v, store) for v in value)
    _check(len(args) == len(value), kind, value)
    return tuple(decode(a, v, store) for a, v in zip(args, value, strict=True))


def _dtype(value: Any) -> np.dtype[Any]:
    _check(type(value) is str, np.dtype, value)
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except (TypeError, ValueError):
        dtype = np.dtype(object)
    _check(dtype.kind in "biuf" and dtype.isnative, np.dtype, value)
    return dtype


def _field(value: Any, name: str, kind: type[Any]) -> Any:
    _check(isinstance(value, kind) and name in value, name, value)
    return value[name]


def _check(fits: bool, kind: Any, value: Any) -> None:
    if not fits:
        wanted = getattr(kind, "__name__", str(kind))
        raise ModelError(f"a record holds {str(value)[:80]!r}; expected {wanted}")
