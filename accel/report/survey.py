"""What a report tells: times of the devices, time and error of every layer, the memory plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from accel.backends.cpu import PlanProgram
from accel.device import device
from accel.errors import AccelError
from accel.explain import Explanation
from accel.model import Model
from accel.program import Program
from accel.schedule import ProductCall
from accel.stage import Life

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class DeviceTime:
    """One device on the model.

    Attributes
    ----------
    ms : of one batch; simulated time for a simulated card; None where the device refused.
    error : norm of the difference to fp32 over the norm of fp32, over all outputs.
    note : why it refused, or what it chose.
    """

    name: str
    ms: float | None
    error: float | None
    note: str


@dataclass(frozen=True)
class LayerError:
    """A product's output in int8 against fp32, and its time on `cpu`.

    Attributes
    ----------
    error : norm of the difference over the norm of fp32; None where it is not a number of its own.
    seconds : of one batch, None where it was not measured.
    peak : share of the dot product peak.
    """

    node: str
    op: str
    macs: int
    window: int | None
    error: float | None
    seconds: float | None
    peak: float | None


@dataclass(frozen=True)
class Survey:
    """All that a report shows."""

    explanation: Explanation
    devices: tuple[DeviceTime, ...]
    layers: tuple[LayerError, ...]
    lives: tuple[Life, ...]
    model_bytes: tuple[int, int]  # fp32, int8


def survey(
    model: Model,
    devices: Sequence[str],
    batch_size: int = 1,
    threads: int = 1,
    inputs: Mapping[str, Array] | None = None,
    repeats: int = 20,
) -> Survey:
    """Measure a float32 model, quantized with the default windows, on several devices.

    Parameters
    ----------
    inputs : one batch by input name; None: noise.
    repeats : runs of which the medians are taken.
    """
    quantized = model if model.is_quantized else model.quantize()
    program = device("cpu").compile(quantized, batch_size, threads)
    assert isinstance(program, PlanProgram)
    x = dict(inputs) if inputs is not None else program.noise()
    explanation = program.profile(x, repeats)
    exact = None if model.is_quantized else model.folded()
    errors = {} if exact is None else _layer_errors(exact, quantized, program, x)
    return Survey(
        explanation,
        tuple(_times(model, quantized, devices, program.batch_size, threads, x, repeats)),
        tuple(_layers(explanation, errors)),
        program.lives(),
        (len(model.to_bytes()), len(quantized.to_bytes())),
    )


def _layers(explanation: Explanation, errors: dict[str, float]) -> list[LayerError]:
    peak = explanation.peak
    return [
        LayerError(
            row.node, row.op, row.macs, row.window, errors.get(row.node), row.seconds,
            row.macs / row.seconds / peak if peak and row.seconds else None,
        )
        for row in explanation.rows
        if row.own and row.macs
    ]  # fmt: skip


def _layer_errors(
    exact: Model, quantized: Model, program: PlanProgram, x: dict[str, Array]
) -> dict[str, float]:
    calls = [c for c in program.schedule.calls if isinstance(c, ProductCall)]
    names = [c.y for c in calls]
    want = _run("onnxruntime", _with_outputs(exact, names), program.batch_size, x)
    got = _run("cpu", _with_outputs(quantized, names), program.batch_size, x)
    return {c.name: _error(got[c.y], want[c.y]) for c in calls if c.y in want and c.y in got}


def _with_outputs(model: Model, names: list[str]) -> Model:
    """The model with more of its values as outputs."""
    graph_model = model.graph()
    held = {v.name for v in graph_model.graph.outputs}
    values: dict[str | None, ir.Value] = {o.name: o for n in graph_model.graph for o in n.outputs}
    for name in names:
        if name in values and name not in held:
            value = values[name]
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
            graph_model.graph.outputs.append(value)
    return Model.from_graph(graph_model, model.name)


def _run(name: str, model: Model, batch: int, x: dict[str, Array]) -> dict[str, Array]:
    program = device(name).compile(model, batch)
    return _named(program, program.run(x))


def _error(got: Array, want: Array) -> float:
    size = float(np.linalg.norm(want))
    return float(np.linalg.norm(got - want)) / size if size > 0 else 0.0


def _times(
    model: Model, quantized: Model, names: Sequence[str], batch: int, threads: int,
    x: dict[str, Array], repeats: int,
) -> list[DeviceTime]:  # fmt: skip
    want: dict[str, Array] | None = None
    found = []
    if not model.is_quantized:
        program = device("onnxruntime").compile(model, batch, threads)
        want = _named(program, program.run(x))
        found.append(_time("onnxruntime, fp32", program, x, want, repeats))
    for name in names:
        try:
            program = device(name).compile(quantized, batch, threads)
            found.append(_time(name, program, x, want, repeats))
        except AccelError as err:
            found.append(DeviceTime(name, None, None, str(err)))
    return found


def _time(
    name: str, program: Program, x: dict[str, Array], want: dict[str, Array] | None, repeats: int
) -> DeviceTime:
    got = _named(program, program.run(x))
    job = program.submit(x)
    job.result()
    if job.simulated_ns is not None:
        ms, note = job.simulated_ns / 1e6, "simulated"
    else:
        ms = program.batch_seconds(x, repeats) * 1e3
        note = program.label if program.label != program.device.name else ""  # what auto took
    error = None
    if want is not None:
        error = _error(*(np.concatenate([np.ravel(y[k]) for k in want]) for y in (got, want)))
    return DeviceTime(name, ms, error, note)


def _named(program: Program, y: Array | dict[str, Array]) -> dict[str, Array]:
    return y if isinstance(y, dict) else {program.outputs[0].name: y}
