"""What OpenVINO reports for its depthwise convolutions alone, without the changes of layout.

python bench/node_times.py
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import openvino
from layer import Layer
from onnx_layers import quantized_conv
from shapes import DEPTHWISE

RUNS = 150


def node_time(layer: Layer) -> float:
    """Seconds of the convolution on one thread, best of `RUNS`; the engine counts microseconds."""
    core = openvino.Core()
    model = core.read_model(quantized_conv(layer).SerializeToString(), b"")
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "PERF_COUNT": True,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    x = np.ascontiguousarray(layer.activations().transpose(0, 3, 1, 2))
    request.set_input_tensor(openvino.Tensor(x))
    times = []
    for _ in range(RUNS):
        request.infer()
        times += [i.real_time for i in request.profiling_info if "Convolution" in i.node_type]
    return float(min(t.total_seconds() for t in times if t.total_seconds() > 0))


if __name__ == "__main__":
    for layer in chain.from_iterable(DEPTHWISE.values()):
        seconds = node_time(layer)
        print(f"{layer.name:28s} {seconds * 1e6:6.0f} us {2e-9 * layer.macs / seconds:6.0f} GOP/s")
