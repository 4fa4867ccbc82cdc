"""How one device's answers compare with the labels and with the fp32 reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.errors import InputError
from accel.program import Array

Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """Shares are 0..1 of the rows; None where there are no labels, or no classes.

    Attributes
    ----------
    top1 : rows whose best class is the label
    agreement : rows whose best class is the reference's
    won, lost : rows right here and wrong in the reference, and the other way round
    error : root of the mean square difference from the reference, over the reference's own
    """

    top1: float | None
    agreement: float | None
    won: int | None
    lost: int | None
    error: float


def classes(y: Array) -> Classes | None:
    """Best class of each row of (N, classes) scores; None for outputs of other shapes."""
    if y.ndim == 4 and y.shape[2:] == (1, 1):
        y = y[:, :, 0, 0]
    if y.ndim != 2 or y.shape[1] < 2:
        return None
    best: Classes = y.argmax(axis=1).astype(np.int64)
    return best


def score(y: dict[str, Array], reference: dict[str, Array], labels: Classes | None) -> Score:
    """Compare the outputs `y` with those of the `reference`, and with `labels` if known.

    Raises
    ------
    InputError
        If there are labels but the first output is not (N, classes).
    """
    error = relative_error(y, reference)
    mine, theirs = (classes(next(iter(outputs.values()))) for outputs in (y, reference))
    if mine is None or theirs is None:
        if labels is not None:
            shape = next(iter(y.values())).shape
            raise InputError(f"labels need an output (N, classes); the first one is {shape}")
        return Score(None, None, None, None, error)
    agreement = float(np.mean(mine == theirs))
    if labels is None:
        return Score(None, agreement, None, None, error)
    here, there = mine == labels, theirs == labels
    won, lost = int(np.sum(here & ~there)), int(np.sum(~here & there))
    return Score(float(np.mean(here)), agreement, won, lost, error)


def relative_error(y: dict[str, Array], reference: dict[str, Array]) -> float:
    """Root mean square difference over root mean square of the reference, all outputs at once."""
    difference = power = 0.0
    for name, expected in reference.items():
        wide = expected.astype(np.float64)
        difference += float(np.sum((y[name] - wide) ** 2))
        power += float(np.sum(wide**2))
    return float(np.sqrt(difference / power)) if power > 0 else float(np.sqrt(difference))
