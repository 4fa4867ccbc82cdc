"""Faults as a line of text: `completion_lost:0.01,hang@5ms`.

Entries have commas between them. Each is the name of a fault, or its number, as `F12`, which means
all faults of that number; then, in any order, `:` and a rate, `@` and the number of an opportunity
(from 0) or a simulated time since the card is ready, `+` and a delay. Without a rate or a moment it
strikes at the first opportunity. Times have a unit: ns, us, ms or s.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from accel.errors import InputError
from accel.fpga.faults import Fault, Rule

UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
ENTRY = re.compile(r"\s*(\w+)((?:[:@+][^:@+]*)*)\s*")
PART = re.compile(r"([:@+])([^:@+]*)")
EXAMPLE = "expected for example 'completion_lost:0.01,hang@5ms'"


def rules_of(faults: str | Iterable[Rule]) -> Sequence[Rule]:
    """Return the rules of a line of text; rules themselves pass through.

    Raises InputError for a name, number or form that is not known.
    """
    if not isinstance(faults, str):
        return list(faults)
    rules: dict[Fault, Rule] = {}
    for entry in filter(str.strip, faults.split(",")):
        for rule in _entry(entry):
            rules[rule.kind] = _merged(rules[rule.kind], rule) if rule.kind in rules else rule
    return list(rules.values())


def _entry(text: str) -> list[Rule]:
    match = ENTRY.fullmatch(text)
    if match is None:
        raise InputError(f"fault {text.strip()!r} cannot be read; {EXAMPLE}")
    rule = Rule(Fault.HANG)
    for sign, value in PART.findall(match[2]):
        value = value.strip()
        if sign == ":":
            rule = replace(rule, rate=_number(value, text))
        elif sign == "+":
            rule = replace(rule, delay=_seconds(value, text))
        elif value.isdecimal():
            rule = replace(rule, at=(int(value),))
        else:
            rule = replace(rule, after=(_seconds(value, text),))
    if not (rule.rate or rule.at or rule.after):
        rule = replace(rule, at=(0,))
    return [replace(rule, kind=kind) for kind in _kinds(match[1])]


def _kinds(name: str) -> list[Fault]:
    """All faults of that name or number."""
    upper = name.upper()
    found = [kind for kind in Fault if upper in (kind.name, kind.value.split()[0])]
    if found:
        return found
    names = [kind.name.lower() for kind in Fault]
    close = difflib.get_close_matches(name.lower(), names)
    hint = f"did you mean {', '.join(close)}" if close else f"known: {', '.join(names)}"
    raise InputError(f"fault {name!r} is not known; {hint}, or F1 to F18")


def _merged(one: Rule, other: Rule) -> Rule:
    return replace(
        one,
        at=(*one.at, *other.at),
        after=(*one.after, *other.after),
        rate=max(one.rate, other.rate),
        delay=one.delay if other.delay is None else other.delay,
    )


def _number(value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"fault {text.strip()!r}: {value!r} is no rate; {EXAMPLE}") from None


def _seconds(value: str, text: str) -> float:
    match = re.fullmatch(r"([\d.]+)\s*(ns|us|ms|s)", value)
    if match is None:
        raise InputError(f"fault {text.strip()!r}: {value!r} is no time; give ns, us, ms or s")
    return _number(match[1], text) * UNITS[match[2]]
