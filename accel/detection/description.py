"""A detector's description as JSON: it travels in a model's metadata or in a file, so every
value is checked as it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from accel.detection.frame import Frame
from accel.detection.priors import PriorGrid
from accel.detection.rows import RowsHead
from accel.detection.spec import DetectorSpec, Head, Normalization
from accel.detection.ssd import SsdHead
from accel.detection.yolo import YoloHead
from accel.errors import InputError

MAX_BYTES = 1 << 20
MAX_ITEMS = 4096  # names, or anchors of a grid
MAX_NUMBER = 1e6
MAX_OUTPUTS = 64

Fields = dict[str, Any]
Read = Callable[[Any, str], Any]


def to_json(spec: DetectorSpec) -> str:
    """JSON that `from_json` reads back to an equal value."""
    kind = next(kind for kind, (head, _) in HEADS.items() if isinstance(spec.head, head))
    return json.dumps({**asdict(spec), "head": {"kind": kind, **asdict(spec.head)}})


def from_json(text: str) -> DetectorSpec:
    """Read a description.

    Raises
    ------
    InputError
        Not JSON, too long, a key that is not known, or a value of a wrong kind or size.
    """
    if len(text) > MAX_BYTES:
        raise InputError(
            f"a detector's description is {len(text)} characters long; expected at most {MAX_BYTES}"
        )
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"a detector's description is not JSON: {error}") from None
    return DetectorSpec(**_fields(values, "the description", SPEC, required=("head",)))


def _fields(values: Any, where: str, readers: dict[str, Read], required: Any = ()) -> Fields:
    if not isinstance(values, dict):
        raise InputError(f"{where} is {_short(values)}; expected an object with keys in {{...}}")
    unknown, missing = set(values) - set(readers), set(required) - set(values)
    if unknown or missing:
        wrong = f"unknown {sorted(unknown)}" if unknown else f"missing {sorted(missing)}"
        raise InputError(f"{where} has wrong keys: {wrong}; known are {sorted(readers)}")
    return {key: readers[key](value, f"{where}: {key}") for key, value in values.items()}


def _number(value: Any, where: str) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or abs(value) > MAX_NUMBER:
        raise InputError(f"{where} is {_short(value)}; expected a number up to {MAX_NUMBER:.0f}")
    return float(value)


def _whole(low: int, high: int) -> Read:
    def read(value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(f"{where} is {_short(value)}; expected a whole number {low}..{high}")
        return value

    return read


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > 256:
        raise InputError(f"{where} is {_short(value)}; expected text of up to 256 characters")
    return value


def _one_of(*known: str) -> Read:
    def read(value: Any, where: str) -> str:
        if value not in known:
            raise InputError(f"{where} is {_short(value)}; expected one of {', '.join(known)}")
        return str(value)

    return read


def _list(read: Read, low: int = 0, high: int = MAX_ITEMS) -> Read:
    def read_all(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not low <= len(value) <= high:
            raise InputError(f"{where} is {_short(value)}; expected a list of {low}..{high} items")
        return tuple(read(item, where) for item in value)

    return read_all


def _or_none(read: Read) -> Read:
    return lambda value, where: None if value is None else read(value, where)


def _object(made: Callable[..., Any], readers: dict[str, Read], required: Any = ()) -> Read:
    return lambda value, where: made(**_fields(value, where, readers, required))


def _head(value: Any, where: str) -> Head:
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in HEADS:
        raise InputError(f"{where} has kind {_short(kind)}; expected one of {', '.join(HEADS)}")
    made, readers = HEADS[kind]
    rest = {key: item for key, item in value.items() if key != "kind"}
    return made(**_fields(rest, where, readers, ("anchors",) if made is YoloHead else ()))


def _priors(value: Any, where: str) -> int | PriorGrid:
    if not isinstance(value, dict):
        number: int = _place(value, where)
        return number
    grid = PriorGrid(**_fields(value, where, PRIORS, PRIORS))
    if len(grid.strides) != len(grid.sizes):
        raise InputError(
            f"{where} has {len(grid.strides)} strides and {len(grid.sizes)} groups of sizes; "
            "expected one group for each stride"
        )
    return grid


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_place = _whole(0, MAX_OUTPUTS)
_pairs = _list(_list(_list(_number, 2, 2), 1, MAX_OUTPUTS), 1, MAX_OUTPUTS)
_values = _list(_number, 1, 16)
PRIORS: dict[str, Read] = {
    "strides": _list(_whole(1, 65536), 1, MAX_OUTPUTS),
    "sizes": _pairs,
}
HEADS: dict[str, tuple[type[YoloHead] | type[SsdHead] | type[RowsHead], dict[str, Read]]] = {
    "yolo": (YoloHead, {"anchors": _pairs, "form": _one_of("exp", "square")}),
    "ssd": (
        SsdHead,
        {
            "scores": _place,
            "boxes": _place,
            "coding": _one_of("corners", "corner_offsets", "centre_size"),
            "priors": _or_none(_priors),
            "variances": _list(_number, 2, 2),
            "background": _or_none(_whole(0, MAX_ITEMS)),
        },
    ),
    "rows": (RowsHead, {"first_label": _whole(0, MAX_ITEMS)}),
}
SPEC: dict[str, Read] = {
    "head": _head,
    "names": _list(_text),
    "normalization": _object(
        Normalization,
        {"mean": _values, "std": _values, "scale": _number, "order": _one_of("rgb", "bgr")},
    ),
    "frame": _object(Frame, {"fit": _one_of("stretch", "letterbox"), "pad": _whole(0, 255)}),
    "score": _number,
    "overlap": _number,
    "limit": _whole(1, 10_000),
}
