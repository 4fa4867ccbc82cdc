"""Settings of a prediction: where each value comes from, and what values are accepted.

Order, first found wins: the argument of the call; the Spark session (``SET spark.accel.backend =
mkl`` or ``--conf spark.accel.backend=mkl``); the environment (``ACCEL_BACKEND``); the default.
All are read on the driver when the query is built, so a wrong value fails before the job starts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from accel.errors import InputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PREFIX = "spark.accel."
ON_ERROR = ("keep", "fail")
ISOLATE = ("auto", "always", "never")
MAX_BATCH = 65536
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True)
class Settings:
    """Resolved settings.

    Attributes
    ----------
    backend : device name: cpu, mkl, openvino, onnxruntime, fpga, fpga:<n> or auto.
    batch_size : rows the program computes at once.
    batch_bytes : most bytes of input held for one batch, as it came and as decoded.
    threads : threads of one task, never more than spark.task.cpus; None takes spark.task.cpus.
    on_error : "keep" gives a bad row an error and goes on; "fail" fails the task.
    max_pixels, max_bytes : an image beyond either is refused before it is decoded.
    cache_slots : programs kept by one Python worker.
    fallback : devices that may compute what the backend cannot, in this order; none by default.
    isolate : when images are decoded in a process of their own: "auto" in tasks that Spark tries
        again, "always" or "never".
    fpga_card : profile of the simulated card; None takes the usual one.
    fpga_faults : what goes wrong on the card, such as "completion_lost:0.01"; None: nothing.
    fpga_timeout_ms : time in which the card must answer a batch.
    """

    backend: str = "cpu"
    batch_size: int = 32
    batch_bytes: int = 64 << 20
    threads: int | None = None
    on_error: str = "keep"
    max_pixels: int = 50_000_000
    max_bytes: int = 64 << 20
    cache_slots: int = 4
    fallback: tuple[str, ...] = ()
    isolate: str = "auto"
    fpga_card: str | None = None
    fpga_faults: str | None = None
    fpga_timeout_ms: int = 60_000


def resolve(spark: SparkSession | None, **arguments: Any) -> Settings:
    """Collect the settings of one query.

    Parameters
    ----------
    spark : the session whose conf is read; None reads the environment only.
    **arguments : fields of Settings; None means "not given".

    Raises
    ------
    InputError
        A value has a wrong form or is out of range, or ``spark.accel.`` is followed by an
        unknown name.
    """
    conf = _session_conf(spark)
    known = {_key(f.name) for f in fields(Settings)}
    unknown = sorted(set(conf) - known)
    if unknown:
        raise InputError(
            f"unknown Spark setting {PREFIX}{unknown[0]}; "
            f"known: {', '.join(PREFIX + name for name in sorted(known))}"
        )
    found = {
        f.name: _find(f.name, f.default, arguments.get(f.name), conf) for f in fields(Settings)
    }
    return Settings(**found)


def parse_count(text: str) -> int:
    """Read a count or a size in bytes: "32", "64m", "1g" (powers of 1024)."""
    match = re.fullmatch(r"\s*(\d+)\s*([kmg]?)b?\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"not a whole number, optionally with k, m or g: {text!r}")
    return int(match[1]) * _UNITS[match[2].lower()]


def _session_conf(spark: SparkSession | None) -> dict[str, str]:
    """Settings of the session under the prefix, without it."""
    if spark is None:
        return {}
    everything: Mapping[str, str] = spark.conf.getAll
    return {k.removeprefix(PREFIX): v for k, v in everything.items() if k.startswith(PREFIX)}


def _find(name: str, default: Any, argument: Any, conf: Mapping[str, str]) -> Any:
    """First value found for one setting, checked."""
    variable = "ACCEL_" + name.upper()
    if argument is not None:
        value, origin = argument, f"argument {name}"
    elif _key(name) in conf:
        value, origin = conf[_key(name)], f"setting {PREFIX}{_key(name)}"
    elif os.environ.get(variable):
        value, origin = os.environ[variable], f"environment variable {variable}"
    else:
        return default
    check: Callable[[Any], Any] = _CHECKS.get(name, _count)
    try:
        return check(value)
    except ValueError as err:
        raise InputError(f"{origin}: {err}") from None


def _count(value: Any) -> int:
    number = parse_count(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"expected a whole number of at least 1, got {value!r}")
    return number


def _batch_size(value: Any) -> int:
    number = _count(value)
    if number > MAX_BATCH:
        raise ValueError(f"expected at most {MAX_BATCH}, got {number}")
    return number


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a name, got {value!r}")
    return value.strip()


def _names(value: Any) -> tuple[str, ...]:
    """Devices, given as "mkl, cpu" or as a sequence; "off" for none."""
    if not isinstance(value, str | list | tuple):
        raise ValueError(f"expected names of devices, got {value!r}")
    parts = value.split(",") if isinstance(value, str) else value
    names = tuple(_name(part) for part in parts)
    return () if names == ("off",) else names


def _choice(known: tuple[str, ...], value: Any) -> str:
    if value not in known:
        raise ValueError(f"expected one of {', '.join(known)}, got {value!r}")
    return str(value)


def _key(name: str) -> str:
    """Spark's spelling of a field: batch_size -> batchSize, fpga_timeout_ms -> fpga.timeoutMs."""
    prefix = "fpga." if name.startswith("fpga_") else ""
    head, *rest = name.removeprefix("fpga_").split("_")
    return prefix + head + "".join(map(str.title, rest))


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "backend": _name,
    "batch_size": _batch_size,
    "on_error": partial(_choice, ON_ERROR),
    "fallback": _names,
    "isolate": partial(_choice, ISOLATE),
    "fpga_card": _name,
    "fpga_faults": _name,
}
