"""Least squares over published rows: fitted numbers, the error of each row, and that of a fit
that has not seen it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.fpga.profile import Profile

Vector = NDArray[np.float64]
NUDGE = 0.01
"""Relative change of a parameter for the numeric derivative; times are whole picoseconds."""
Predictor = Callable[[dict[str, float]], float]
"""The rate or time of one row for given numbers."""


@dataclass(frozen=True)
class Row:
    """One measurement: what it is of, its value, the fit's, and that of a fit without it.

    `left_out` is NaN where no such fit was made.
    """

    name: str
    measured: float
    fitted: float
    left_out: float

    @property
    def error(self) -> float:
        """Relative error of the fit."""
        return self.fitted / self.measured - 1

    @property
    def left_out_error(self) -> float:
        """Relative error of the fit that has not seen this row."""
        return self.left_out / self.measured - 1


@dataclass(frozen=True)
class Calibration:
    """Result of one fit; `str()` gives the table."""

    family: str
    values: dict[str, float]
    rows: tuple[Row, ...]

    @property
    def error(self) -> float:
        """Root mean square of the relative errors."""
        return math.sqrt(sum(row.error**2 for row in self.rows) / len(self.rows))

    @property
    def unseen_error(self) -> float:
        """Root mean square of the relative errors of rows that their fit has not seen."""
        errors = [row.left_out_error for row in self.left_out]
        return math.sqrt(sum(error**2 for error in errors) / len(errors)) if errors else math.nan

    @property
    def mean_error(self) -> float:
        """Mean of the absolute relative errors."""
        return sum(abs(row.error) for row in self.rows) / len(self.rows)

    @property
    def worst(self) -> Row:
        """The row that the fit misses most."""
        return max(self.rows, key=lambda row: abs(row.error))

    @property
    def left_out(self) -> tuple[Row, ...]:
        """The rows that a fit without them was made for."""
        return tuple(row for row in self.rows if not math.isnan(row.left_out))

    def __str__(self) -> str:
        values = ", ".join(f"{k} = {v:.4g}" for k, v in self.values.items())
        lines = [f"{self.family}: {values or 'nothing is fitted'}"]
        lines += [
            f"  {row.name:40} {row.measured:10.4g} {row.fitted:10.4g} {row.error:+7.1%}"
            + ("" if math.isnan(row.left_out) else f" {row.left_out_error:+7.1%}")
            for row in self.rows
        ]
        worst = f"worst {self.worst.error:+.1%} at {self.worst.name}"
        lines.append(f"  rms error {self.error:.1%}, mean {self.mean_error:.1%}, {worst}")
        if self.left_out:
            errors = [abs(row.left_out_error) for row in self.left_out]
            row = max(self.left_out, key=lambda row: abs(row.left_out_error))
            mean = sum(errors) / len(errors)
            lines.append(
                f"  left out: mean {mean:.1%}, worst {row.left_out_error:+.1%} at {row.name}"
            )
        return "\n".join(lines)


def fit(
    family: str,
    start: Profile,
    parameters: Sequence[str],
    names: Sequence[str],
    measured: Sequence[float],
    predictors: Sequence[Predictor],
    leave_out: bool = True,
) -> Calibration:
    """Fit `parameters` so that the predictors meet `measured`, in the logarithm of both.

    The search begins at the values of `start`.
    """
    if len(measured) < len(parameters):
        raise InputError(
            f"{family}: {len(measured)} rows cannot determine {len(parameters)} parameters"
        )
    guess = np.log([start.value(p) for p in parameters])
    target = np.log(np.asarray(measured))

    def residual(x: Vector, chosen: Sequence[int]) -> Vector:
        values = dict(zip(parameters, np.exp(x).tolist(), strict=True))
        return np.array([math.log(predictors[i](values)) - target[i] for i in chosen])

    everything = list(range(len(measured)))
    best = _least_squares(lambda x: residual(x, everything), guess)
    rows = []
    for i, name in enumerate(names):
        fitted = math.exp(residual(best, [i])[0] + target[i])
        unseen = math.nan
        if leave_out:
            rest = [k for k in everything if k != i]
            alone = _least_squares(lambda x: residual(x, rest), best)  # noqa: B023 - used at once
            unseen = math.exp(residual(alone, [i])[0] + target[i])
        rows.append(Row(name, measured[i], fitted, unseen))
    return Calibration(family, dict(zip(parameters, np.exp(best).tolist(), strict=True)),
                       tuple(rows))  # fmt: skip


def _least_squares(residual: Callable[[Vector], Vector], start: Vector, steps: int = 40) -> Vector:
    """Minimise the sum of squares by damped Gauss-Newton steps with a numeric Jacobian."""
    x, r, damping = start, residual(start), 1e-2
    for _ in range(steps):
        jacobian: Vector = np.stack(
            [(residual(x + h) - r) / NUDGE for h in NUDGE * np.eye(len(x))], axis=1
        )
        normal = jacobian.T @ jacobian
        for _ in range(8):
            lift = damping * (np.diag(np.diag(normal)) + 1e-9 * np.eye(len(x)))
            step = np.linalg.solve(normal + lift, -jacobian.T @ r)
            trial: Vector = x + np.clip(step, -0.5, 0.5)
            better = residual(trial)
            if better @ better < r @ r:
                break
            damping *= 4
        else:
            return x
        gain = float(r @ r - better @ better)
        x, r, damping = trial, better, damping / 4
        if gain < 1e-9:
            return x
    return x
