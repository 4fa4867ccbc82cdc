"""The `openvino` device: OpenVINO's CPU plugin. Windowed int8 weights are decompressed there and
activations stay float32; a calibrated model runs in its int8 kernels."""

from __future__ import annotations

import importlib.util
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from accel import graph as g
from accel.backends.onnxruntime import foreign_explanation
from accel.device import Device
from accel.errors import UnsupportedError
from accel.explain import Explanation
from accel.order import Order
from accel.passes.drop_inner_pairs import drop_inner_pairs
from accel.passes.unfold_blocks import unfold_blocks
from accel.program import Arrays, Program


def availability() -> tuple[bool, str]:
    """Whether the openvino wheel is installed."""
    if importlib.util.find_spec("openvino") is None:
        return False, "not installed; run: pip install 'lwaccel[openvino]'"
    try:
        return True, f"OpenVINO {version('openvino')}"
    except PackageNotFoundError:
        return False, "broken installation; run: pip install --force-reinstall openvino"


def open_device(index: int) -> Device:
    """Open the device."""
    return Device("openvino", OpenVinoProgram)


class OpenVinoProgram(Program):
    """One compiled model and one infer request."""

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self._graph = order.model.with_shapes(self.batch_size, self.shapes)
        config = {
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_CPU_PINNING": False,  # pinning puts several processes on the same core
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        try:
            core = _core()
            ready = drop_inner_pairs(unfold_blocks(self._graph))
            read = core.read_model(g.to_bytes(ready))
            self._request = core.compile_model(read, "CPU", config).create_infer_request()
        except Exception as err:
            raise UnsupportedError(
                f"model {order.model.name!r}: OpenVINO cannot run it: {_reason(err)}"
            ) from None

    def _execute(self, inputs: Arrays) -> Arrays:
        found = self._request.infer(inputs, share_inputs=True)
        outputs = (found[i] for i in range(len(self.outputs)))
        return {s.name: np.array(a) for s, a in zip(self.outputs, outputs, strict=True)}

    def explain(self) -> Explanation:
        return foreign_explanation(self, self._graph, "openvino")


def _reason(err: Exception) -> str:
    """The lines of OpenVINO's report that name the fault, without its call trace."""
    trace = ("Exception from", "Check ", "FrontEnd API", "Summary")
    lines = [line.strip() for line in str(err).splitlines()]
    told = [line for line in lines if line and not line.startswith(trace)]
    return " | ".join(told[:6])[:600] or str(err)[:600]


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()
