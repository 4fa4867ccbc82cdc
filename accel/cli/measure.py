"""Run a model on a device over many rows: outputs, latency and throughput.

Latency is the median over single rows, throughput a pass over all rows in batches. On a
simulated card both are simulated time, which the clock of this machine knows nothing of.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

import accel
from accel.cli.output import Advance
from accel.model import Model
from accel.program import Array, Program

LATENCY_ROWS = 100
WARM_UP = 3


@dataclass(frozen=True)
class Measurement:
    """One device's answer over N rows.

    Attributes
    ----------
    device : its name
    outputs : output name to (N, ...) array
    latency_s : median seconds for one row alone
    rows_per_s : rows in a second, in batches
    simulated : True where the times are those of the simulated card
    model_bytes : size of the model as an ONNX file
    precision : "int8" or "fp32", of the model given to the device
    """

    device: str
    outputs: dict[str, Array]
    latency_s: float
    rows_per_s: float
    simulated: bool
    model_bytes: int
    precision: str

    @property
    def main(self) -> Array:
        """The first output: class scores, for a classifier."""
        return next(iter(self.outputs.values()))


def measure(
    model: Model, name: str, x: Array, batch_size: int, threads: int, advance: Advance
) -> Measurement:
    """Compile `model` for the device `name` and run all rows of `x` on it."""
    target = accel.device(name)
    single = target.compile(model, batch_size=1, threads=threads)
    rows = _batches(x, single.batch_size)
    times = [_timed(single, batch)[1] for batch in islice(rows, LATENCY_ROWS)]
    program = single
    if batch_size > 1 and single.batch_size == 1 and model.inputs[0].shape[:1] == (None,):
        program = target.compile(model, batch_size=batch_size, threads=threads)
    outputs, seconds = run_batches(program, x, advance)
    return Measurement(
        device=program.label,
        outputs=outputs,
        latency_s=float(np.median(times[WARM_UP:] or times)),
        rows_per_s=len(x) / seconds,
        simulated=is_simulated(program),
        model_bytes=len(model.to_bytes()),
        precision="int8" if model.is_quantized else "fp32",
    )


def run_batches(program: Program, x: Array, advance: Advance) -> tuple[dict[str, Array], float]:
    """All rows in batches: outputs by name, and the seconds spent in the device."""
    parts: list[dict[str, Array]] = []
    total = 0.0
    _timed(program, x[: program.batch_size])  # warm-up
    for i, batch in enumerate(_batches(x, program.batch_size), start=1):
        outputs, seconds = _timed(program, batch)
        parts.append(outputs)
        total += seconds
        advance(min(i * program.batch_size, len(x)), len(x))
    return {name: _joined(parts, name, len(x)) for name in parts[0]}, total


def is_simulated(program: Program) -> bool:
    """Whether the times of this program are simulated."""
    return program.device.name.startswith("fpga")


def _timed(program: Program, batch: Array) -> tuple[dict[str, Array], float]:
    start = time.perf_counter()
    if is_simulated(program):
        job = program.submit(batch)
        result = job.result()
        seconds = (job.simulated_ns or 0) * 1e-9
    else:
        result = program.run(batch)
        seconds = time.perf_counter() - start
    named = result if isinstance(result, dict) else {program.outputs[0].name: result}
    return named, max(seconds, 1e-12)


def _batches(x: Array, size: int) -> Iterator[Array]:
    return (x[i : i + size] for i in range(0, len(x), size))


def _joined(parts: list[dict[str, Any]], name: str, rows: int) -> Array:
    """Batches of one output as one array; an output without a batch dimension gets one."""
    arrays = [part[name] for part in parts]
    follows = sum(a.shape[0] for a in arrays if a.ndim) == rows
    joined: Array = np.concatenate(arrays) if follows else np.stack(arrays)
    return joined
