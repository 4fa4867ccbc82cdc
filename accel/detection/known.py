"""Detectors that are described in the package, and descriptions in files."""

from __future__ import annotations

from pathlib import Path

from accel.detection.description import MAX_BYTES, from_json
from accel.detection.spec import DetectorSpec
from accel.errors import InputError

FOLDER = Path(__file__).parents[1] / "data" / "detectors"


def known_detectors() -> tuple[str, ...]:
    """Names that `load_spec` takes."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.json")))


def load_spec(source: str | Path) -> DetectorSpec:
    """Read a description: of a known detector by its name, or from a JSON file.

    Raises
    ------
    InputError
        Neither a known name nor a readable file, or a description with a fault.
    """
    known = source in known_detectors()
    path = FOLDER / f"{source}.json" if known else Path(source)
    try:
        with path.open(encoding="utf-8") as file:
            return from_json(file.read(MAX_BYTES + 1))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{str(source)!r} is neither a known detector ({', '.join(known_detectors())}) nor "
            f"a readable JSON file: {error}"
        ) from None
