"""The `onnxruntime` device: ONNX Runtime's CPU provider. Windowed int8 weights are decompressed
there and activations stay float32; a calibrated model runs in its int8 kernels. Also the fp32
reference of all comparisons."""

from __future__ import annotations

import onnx_ir as ir
import onnxruntime

from accel import graph as g
from accel.device import Device
from accel.explain import Explanation, Row
from accel.host import open_session, typed_errors
from accel.order import Order
from accel.program import Arrays, Program
from accel.workload import workload_of

STATIC = "int8 weights and activations"
WEIGHTS_ONLY = "int8 weights, float32 arithmetic"


def availability() -> tuple[bool, str]:
    """Always installed: ONNX Runtime also runs the operators outside our kernels."""
    return True, f"ONNX Runtime {onnxruntime.__version__}"


def open_device(index: int) -> Device:
    """Open the device."""
    return Device("onnxruntime", OnnxRuntimeProgram)


class OnnxRuntimeProgram(Program):
    """One InferenceSession."""

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        model = order.model
        self._graph = model.with_shapes(self.batch_size, self.shapes)
        self._session = open_session(model.to_bytes(), self.threads, model.name)
        self._names = [o.name for o in self.outputs]

    def _execute(self, inputs: Arrays) -> Arrays:
        with typed_errors():
            found = self._session.run(self._names, inputs)
        return dict(zip(self._names, found, strict=True))

    def explain(self) -> Explanation:
        return foreign_explanation(self, self._graph, "onnxruntime")


def foreign_explanation(program: Program, graph_model: ir.Model, where: str) -> Explanation:
    """Rows for an engine that runs the whole graph itself: none of it is our own code."""
    forms = {
        node.name or node.outputs[0].name or "": _form(node)
        for node in graph_model.graph
        if len(node.inputs) > 1
    }
    notes = [f"the whole graph runs in {where}; it chooses its own kernels"]
    if STATIC in forms.values():
        notes.append("static QDQ form: the ranges of its activations come from samples")
    return Explanation(
        program.model.name,
        program.device.name,
        program.batch_size,
        program.threads,
        tuple(
            Row(x.name, x.op, where, forms[x.name], macs=x.macs) for x in workload_of(graph_model)
        ),
        notes=tuple(notes),
    )


def _form(node: ir.Node) -> str:
    """Precision in which a product stands in the graph."""
    real = [v is not None and g.is_op(v.producer(), "DequantizeLinear") for v in node.inputs[:2]]
    return STATIC if all(real) else WEIGHTS_ONLY if real[1] else "float32"
