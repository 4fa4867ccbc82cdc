"""The figures that make one card: each with its unit, its source and how far it is known.

A profile is a TOML file in `profiles/`. What several cards share (the fitted parameters of one kind
of engine, or of one kind of link) stands once, in a family file, whose name begins with `_`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from accel.errors import CardError

KNOWN = ("published", "fitted", "assumed")


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, `status` (published, fitted or assumed) and source."""

    value: float
    unit: str
    status: str
    source: str


@dataclass(frozen=True)
class Profile(Mapping[str, Quantity]):
    """A card's figures by dotted name, e.g. `profile["link.lanes"].value`."""

    name: str
    families: tuple[str, ...]
    description: str
    quantities: dict[str, Quantity]

    def __getitem__(self, key: str) -> Quantity:
        return self.quantities[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.quantities)

    def __len__(self) -> int:
        return len(self.quantities)

    def value(self, key: str) -> float:
        """Return the number called `key`; raises CardError naming the profile if absent."""
        if key not in self.quantities:
            close = difflib.get_close_matches(key, self.quantities)
            hint = f"; did you mean {', '.join(close)}?" if close else ""
            raise CardError(f"profile {self.name!r} has no {key!r}{hint}")
        return self.quantities[key].value

    def with_values(self, **values: float) -> Profile:
        """Return a copy with some numbers replaced; `__` in a keyword stands for the dot.

        A replaced number is marked as assumed, since its source no longer holds.
        """
        quantities = dict(self.quantities)
        for keyword, value in values.items():
            key = keyword.replace("__", ".")
            self.value(key)
            quantities[key] = Quantity(value, self[key].unit, "assumed", "set by the caller")
        return Profile(self.name, self.families, self.description, quantities)

    @property
    def has_engine(self) -> bool:
        """Whether the card computes, or only moves bytes."""
        return "engine.count" in self.quantities


def profile_names() -> tuple[str, ...]:
    """Return the names of all shipped cards, sorted."""
    folder = resources.files("accel.fpga") / "profiles"
    names = (f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
    return tuple(sorted(name for name in names if not name.startswith("_")))


@cache
def load_profile(name: str) -> Profile:
    """Read the shipped profile `name`. Raises CardError listing the names if there is none."""
    if name not in profile_names():
        raise CardError(f"card {name!r} is not known; known cards: {', '.join(profile_names())}")
    card = _read(f"{name}.toml")
    families = tuple(card.pop("families"))
    description = str(card.pop("description"))
    quantities: dict[str, Quantity] = {}
    for family in families:
        quantities |= _flatten(_read(f"_{family}.toml"))
    return Profile(name, families, description, quantities | _flatten(card))


def _read(name: str) -> dict[str, Any]:
    file = resources.files("accel.fpga").joinpath("profiles", name)
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _flatten(tables: dict[str, Any]) -> dict[str, Quantity]:
    return {
        f"{section}.{key}": _quantity(f"{section}.{key}", fields)
        for section, keys in tables.items()
        for key, fields in keys.items()
    }


def _quantity(key: str, fields: dict[str, Any]) -> Quantity:
    quantity = Quantity(**fields)
    if quantity.status not in KNOWN:
        raise CardError(f"{key}: status {quantity.status!r}; expected one of {', '.join(KNOWN)}")
    return quantity
