"""Measurement: counts and times of a job, taken by the job itself.

They are an Observation of Spark, so a task that is tried again counts once; an accumulator would
count it twice.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from accel.device import kinds
from accel.errors import InputError
from spark_bridge.meta import TIMES
from spark_bridge.rows import CODES


class Measurement:
    """What a job found; waits for the job where it has not ended."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation

    @cached_property
    def _found(self) -> dict[str, Any]:
        return self._observation.get

    @property
    def rows(self) -> int:
        """Rows that came out."""
        return int(self._found["rows"])

    @property
    def errors(self) -> dict[str, int]:
        """Rows by error code, codes that did not occur left out."""
        return self._counts("error ")

    @property
    def devices(self) -> dict[str, int]:
        """Rows by kind of device; empty for a prediction made without ``meta=True``."""
        return self._counts("device ")

    @property
    def seconds(self) -> dict[str, float]:
        """Time of all tasks together: "queue", "decode" and "infer"; empty as above."""
        found = {name: self._found.get(name) for name in TIMES}
        return {n.removesuffix("_us"): us / 1e6 for n, us in found.items() if us is not None}

    def __str__(self) -> str:
        """A summary for a person."""
        lines = [("rows", f"{self.rows:,}"), ("errors", f"{sum(self.errors.values()):,}")]
        if self.errors:
            lines[-1] = ("errors", f"{lines[-1][1]} ({_listed(self.errors)})")
        if self.devices:
            lines.append(("devices", _listed(self.devices)))
        if self.seconds:
            times = ", ".join(f"{name} {s:.2f} s" for name, s in self.seconds.items())
            lines.append(("time", f"{times}, of all tasks together"))
        return "\n".join(f"  {name:<10} {text}" for name, text in lines)

    def _counts(self, prefix: str) -> dict[str, int]:
        named = {k.removeprefix(prefix): v for k, v in self._found.items() if k.startswith(prefix)}
        return {name: int(n) for name, n in named.items() if n}


def measure(df: DataFrame, column: str = "prediction") -> tuple[DataFrame, Measurement]:
    """Let a job count as it runs.

    Parameters
    ----------
    df : holds a column of `spark_bridge.predict`; not a stream.
    column : its name; made with ``meta=True``, devices and times are known too.

    Returns
    -------
    The DataFrame to run the job on, and what the first action on it finds. All its rows must be
    read: a ``limit`` or ``show`` counts what it saw.

    Raises
    ------
    InputError
        No such column, or none of `predict`.
    """
    kind = df.schema[column].dataType if column in df.columns else None
    if not isinstance(kind, StructType) or "error" not in kind.names:
        raise InputError(
            f"{column!r} is no column of predictions; columns: {', '.join(df.columns)}"
        )
    if df.isStreaming:
        raise InputError("df is a stream; its query says what each batch did (query.lastProgress)")
    counts = [F.count(F.lit(1)).alias("rows")]
    code = F.col(f"`{column}`.error.code")
    counts += [F.count_if(code == name).alias(f"error {name}") for name in CODES]
    if "meta" in kind.names:
        device = F.col(f"`{column}`.meta.device")
        counts += [F.count_if(device.startswith(n)).alias(f"device {n}") for n in kinds()]
        counts += [F.sum(F.col(f"`{column}`.meta.{name}")).alias(name) for name in TIMES]
    observation = Observation()
    return df.observe(observation, *counts), Measurement(observation)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
