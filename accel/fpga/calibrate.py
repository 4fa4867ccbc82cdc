"""Refit the fitted numbers of the profiles from tables of published measurements.

Each family of engines has a handful of parameters with a physical meaning, fitted by least squares
to the logarithm of the rate; no parameter belongs to a single network. The table also gives, for
each row, the prediction of a fit that has not seen it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.fpga.predict import predict
from accel.fpga.profile import Profile, load_profile
from accel.fpga.topologies import topology
from accel.fpga.transfer import bridge_curve, hardware_curve, read_latency, software_curve

Vector = NDArray[np.float64]
NUDGE = 0.01
"""Relative change of a parameter for the numeric derivative; times are whole picoseconds."""

NETWORKS = {
    "inceptionv1": "inception_v1", "inception_v1": "inception_v1", "inceptionv3": "inception_v3",
    "inception_v4": "inception_v4", "mobilenetv1": "mobilenet_v1", "mobilenetv2": "mobilenet_v2",
    "cf_resnet18": "resnet18", "cf_resnet50": "resnet50", "resnet50_v1": "resnet50",
    "resnetv1_50": "resnet50_slim", "resnetv1_101": "resnet101_slim",
    "resnetv1_152": "resnet152_slim", "squeezenet": "squeezenet", "vgg16": "vgg16",
    "vgg19": "vgg19", "yolov2": "yolo_v2", "yolov3": "yolo_v3",
}  # fmt: skip
"""Part of a name in the benchmark tables, and the topology it stands for."""

CARDS = {"U50": "alveo-u50", "ZCU102": "zcu102", "Alveo U200/U250": "alveo-u250"}
PARAMETERS: dict[str, tuple[str, ...]] = {
    "dpucahx8h": (
        "engine.efficiency", "engine.bandwidth", "engine.layer_overhead",
        "engine.image_overhead", "engine.spill",
    ),
    "dpuczdx8g": (
        "engine.efficiency", "engine.bandwidth", "engine.layer_overhead", "engine.spill",
    ),
    "xdnn": ("engine.efficiency", "engine.bandwidth", "engine.layer_overhead"),
}  # fmt: skip
"""Numbers fitted for each family of engines."""


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
    def mean_error(self) -> float:
        """Mean of the absolute relative errors."""
        return sum(abs(row.error) for row in self.rows) / len(self.rows)

    @property
    def worst(self) -> Row:
        """The row that the fit misses most."""
        return max(self.rows, key=lambda row: abs(row.error))

    def __str__(self) -> str:
        lines = [f"{self.family}: " + ", ".join(f"{k} = {v:.4g}" for k, v in self.values.items())]
        lines += [
            f"  {row.name:40} {row.measured:10.4g} {row.fitted:10.4g} {row.error:+7.1%}"
            + ("" if math.isnan(row.left_out) else f" {row.left_out_error:+7.1%}")
            for row in self.rows
        ]
        worst = f"worst {self.worst.error:+.1%} at {self.worst.name}"
        summary = f"rms error {self.error:.1%}, mean {self.mean_error:.1%}, {worst}"
        return "\n".join([*lines, f"  {summary}"])


def fit_engines(table: str | Path, family: str, leave_out: bool = True) -> Calibration:
    """Fit a family of engines to the rows of an accelerator table.

    Parameters
    ----------
    table : CSV with columns card, n_engines, clock_MHz, model, fps
    family : key of `PARAMETERS`
    leave_out : whether to repeat the fit without each row; else `left_out` is NaN

    Raises
    ------
    InputError
        Unknown family, unreadable table, or fewer rows than parameters.
    """
    if family not in PARAMETERS:
        raise InputError(f"family {family!r} is not known; known: {', '.join(PARAMETERS)}")
    names, measured, predictors = [], [], []
    for line in read_table(table, ("card", "n_engines", "clock_MHz", "model", "fps")):
        card = next((CARDS[c] for c in CARDS if line["card"].startswith(c)), None)
        if card is None or family not in load_profile(card).families:
            continue
        names.append(f"{card} {line['model']}")
        measured.append(float(line["fps"]))
        predictors.append(_engine_predictor(line, load_profile(card)))
    start = load_profile(next(c for c in CARDS.values() if family in load_profile(c).families))
    return fit(family, start, PARAMETERS[family], names, measured, predictors, leave_out)


def fit_link(table: str | Path, card: str, leave_out: bool = True) -> Calibration:
    """Fit the link and the software path of a card to the rows of a DMA table.

    `card` is "alveo-u200" (software end to end), "alveo-u250" (slave bridge), "nfp6000" or
    "nfp6000-snb" (hardware). Rates are in GB/s, latencies in us.
    Raises InputError for another card or an unreadable table.
    """
    chooser = {
        "alveo-u200": ("Alveo U200", "", ("driver.submit", "link.read_window", "link.write_rate")),
        "alveo-u250": ("Alveo U250", "", ("bridge.pass_latency", "bridge.bandwidth")),
        "nfp6000": ("NFP6000", "hsw", _NFP), "nfp6000-snb": ("NFP6000", "snb", _NFP),
    }  # fmt: skip
    if card not in chooser:
        raise InputError(f"no link rows for {card!r}; expected one of {', '.join(chooser)}")
    platform, host, parameters = chooser[card]
    columns = ("platform", "layer", "direction", "transfer_bytes", "throughput_GBps",
               "latency_us", "host_conf")  # fmt: skip
    names, measured, predictors = [], [], []
    for line in read_table(table, columns):
        if not line["platform"].startswith(platform) or not line["host_conf"].startswith(host):
            continue
        if line["direction"] not in ("H2C", "C2H", "BIDIR"):
            continue
        rate = bool(line["throughput_GBps"])
        names.append(f"{line['direction']} {line['transfer_bytes']} {'GB/s' if rate else 'us'}")
        measured.append(float(line["throughput_GBps"] or line["latency_us"]))
        predictors.append(_link_predictor(line, load_profile(card), rate))
    return fit(card, load_profile(card), parameters, names, measured, predictors, leave_out)


LINK_CARDS = ("alveo-u200", "alveo-u250", "nfp6000", "nfp6000-snb")
"""Cards that `fit_link` has rows for."""

_NFP = (
    "link.read_latency", "link.read_tags", "link.write_rate", "link.piece_overhead",
    "memory.bandwidth",
)  # fmt: skip
Predictor = Callable[[dict[str, float]], float]


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


def read_table(path: str | Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file; raises InputError when it or a column is missing."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"cannot read calibration table {path}: {error.strerror}") from None
    missing = [c for c in columns if not rows or c not in rows[0]]
    if missing:
        raise InputError(f"calibration table {path} lacks the columns {', '.join(missing)}")
    return rows


def _engine_predictor(line: dict[str, str], card: Profile) -> Predictor:
    found = [topology(NETWORKS[n]) for n in NETWORKS if n in line["model"].lower()]
    if not found:
        raise InputError(f"no topology for the network {line['model']!r} of the table")
    layers = found[0]
    profile = card.with_values(
        engine__count=float(line["n_engines"]), engine__clock=float(line["clock_MHz"]) * 1e6
    )
    shared = "dpuczdx8g" in card.families

    def rate(values: dict[str, float]) -> float:
        total = {"engine.total_bandwidth": values["engine.bandwidth"]} if shared else {}
        return predict(layers, _with(profile, values | total)).images_per_s

    return rate


def _link_predictor(line: dict[str, str], card: Profile, rate: bool) -> Predictor:
    n_bytes, direction = int(line["transfer_bytes"]), line["direction"].lower()
    software = line["layer"].startswith("software")

    def predicted(values: dict[str, float]) -> float:
        notify = {"driver.notify": values["driver.submit"]} if "driver.submit" in values else {}
        profile = _with(card, values | notify)
        if not rate:
            return read_latency(profile, n_bytes) * 1e6
        if "bridge.bandwidth" in values:
            return bridge_curve(profile, direction, [n_bytes])[0].bytes_per_s / 1e9  # type: ignore[arg-type]
        if software:
            way = "h2c" if direction == "h2c" else "c2h"
            return software_curve(profile, way, [n_bytes])[0].bytes_per_s / 1e9  # type: ignore[arg-type]
        return hardware_curve(profile, direction, [n_bytes])[0].bytes_per_s / 1e9  # type: ignore[arg-type]

    return predicted


def _with(profile: Profile, values: dict[str, float]) -> Profile:
    return profile.with_values(**{key.replace(".", "__"): v for key, v in values.items()})


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
