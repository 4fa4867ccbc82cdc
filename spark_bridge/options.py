"""Options of a streaming source, as Spark gives them: names in any case, values as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accel.errors import InputError
from spark_bridge.settings import parse_count


def read_options(
    source: str, given: Mapping[str, str], required: Sequence[str], defaults: Mapping[str, str]
) -> dict[str, str]:
    """Every option of a source by its own name.

    Raises
    ------
    InputError
        An unknown option, or a required one that is missing.
    """
    known = {name.lower(): name for name in (*required, *defaults)}
    unknown = sorted(set(map(str.lower, given)) - set(known))
    if unknown:
        raise InputError(f"unknown option {unknown[0]!r}; known: {', '.join(known.values())}")
    found = {**defaults, **{known[name.lower()]: value for name, value in given.items()}}
    for name in required:
        if not found.get(name):
            raise InputError(f"option {name} is missing; {source} needs {', '.join(required)}")
    return found


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """An option that takes one of a few values."""
    if value not in choices:
        raise InputError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    return value


def count(name: str, text: Any) -> int:
    """An option that is a number of at least 1, such as "32" or "64m"."""
    try:
        number = parse_count(text)
    except ValueError as err:
        raise InputError(f"option {name}: {err}") from None
    if number < 1:
        raise InputError(f"option {name} is {text!r}; expected at least 1")
    return number
