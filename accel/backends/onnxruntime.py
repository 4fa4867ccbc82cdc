"""The `onnxruntime` device: ONNX Runtime's CPU provider. int8 weights are decompressed there;
activations stay float32. Also the fp32 reference of all comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnxruntime

from accel.device import Device
from accel.explain import Explanation, Row
from accel.host import open_session
from accel.model import Model
from accel.program import Arrays, Program
from accel.workload import Layer, workload_of


def availability() -> tuple[bool, str]:
    """Always installed: ONNX Runtime also runs the operators outside our kernels."""
    return True, f"ONNX Runtime {onnxruntime.__version__}"


def open_device(index: int) -> Device:
    """Open the device."""
    return Device("onnxruntime", OnnxRuntimeProgram)


class OnnxRuntimeProgram(Program):
    """One InferenceSession."""

    def __init__(
        self,
        device: Device,
        model: Model,
        batch_size: int | None,
        threads: int,
        strict: bool,
        shapes: Mapping[str, Sequence[int]] | None,
    ) -> None:
        super().__init__(device, model, batch_size, threads, shapes)
        self._layers = model.with_shapes(self.batch_size, self.shapes)
        self._session = open_session(model.to_bytes(), threads, model.name)
        self._names = [o.name for o in self.outputs]

    def _execute(self, inputs: Arrays) -> Arrays:
        return dict(zip(self._names, self._session.run(self._names, inputs), strict=True))

    def explain(self) -> Explanation:
        return foreign_explanation(self, workload_of(self._layers), "onnxruntime")


def foreign_explanation(program: Program, layers: list[Layer], where: str) -> Explanation:
    """Rows for an engine that runs the whole graph itself: none of it is our own code."""
    quantized = program.model.is_quantized
    kernel = "int8 weights, float32 arithmetic" if quantized else "float32"
    return Explanation(
        program.model.name,
        program.device.name,
        program.batch_size,
        program.threads,
        tuple(Row(x.name, x.op, where, kernel, macs=x.macs) for x in layers),
        notes=(f"the whole graph runs in {where}; it chooses its own kernels",),
    )
