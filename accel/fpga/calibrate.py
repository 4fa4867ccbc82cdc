"""Refit the fitted numbers of the profiles from tables of published measurements.

Each family of engines has a handful of parameters with a physical meaning, fitted by least squares
to the logarithm of the rate; no parameter belongs to a single network. The table also gives, for
each row, the prediction of a fit that has not seen it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from accel.errors import InputError
from accel.fpga.fit import Calibration, Predictor, Row, fit
from accel.fpga.packet import udp_goodput
from accel.fpga.predict import predict
from accel.fpga.profile import Profile, load_profile
from accel.fpga.topologies import topology
from accel.fpga.transfer import bridge_curve, hardware_curve, read_latency, software_curve

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


def compare_nic(table: str | Path, card: str = "alveo-u280") -> Calibration:
    """Set the port's arithmetic, in which nothing is fitted, beside the rows of a NIC table.

    Rates are in Gb/s. Raises InputError for an unreadable table.
    """
    profile = load_profile(card)
    rows = []
    for line in read_table(table, ("payload_bytes", "throughput_Gbps")):
        payload = int(line["payload_bytes"])
        rate = udp_goodput(profile, payload) * 8 / 1e9
        rows.append(Row(f"UDP {payload} Gb/s", float(line["throughput_Gbps"]), rate, math.nan))
    return Calibration(f"{card} port", {}, tuple(rows))


LINK_CARDS = ("alveo-u200", "alveo-u250", "nfp6000", "nfp6000-snb")
"""Cards that `fit_link` has rows for."""

_NFP = (
    "link.read_latency", "link.read_tags", "link.write_rate", "link.piece_overhead",
    "memory.bandwidth",
)  # fmt: skip


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
