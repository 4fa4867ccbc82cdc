"""Access to a network's outputs by their place."""

from __future__ import annotations

from collections.abc import Sequence

from accel.detection.boxes import Array
from accel.errors import ModelError


def output(outputs: Sequence[Array], index: int) -> Array:
    """Output number `index`, or a ModelError that counts what there is."""
    if index >= len(outputs):
        raise ModelError(f"the head reads output {index}; the network has {len(outputs)} outputs")
    return outputs[index]
