"""Calibrate a model on sample inputs: the static int8 form that other engines run fast.

Our own kernels need none of this; it gives `openvino` and `onnxruntime` their best form, to use or
to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.device import device
from accel.errors import InputError, ModelError
from accel.model import QUANTIZED_KEY, Model
from accel.passes.choose_windows import WINDOW_KEY
from accel.passes.fold_batchnorm import fold_batchnorm
from accel.passes.fold_constants import fold_constants
from accel.passes.fold_pixels import fold_pixels
from accel.passes.keep_int8 import keep_int8
from accel.passes.write_qdq import tensors_to_measure, write_qdq

BATCH = 8

Array = np.ndarray[Any, Any]
Ranges = dict[str, tuple[float, float]]


def calibrate(model: Model, samples: Array | Mapping[str, Array]) -> Model:
    """See `Model.calibrate`."""
    folded = fold_pixels(fold_batchnorm(keep_int8(fold_constants(model.graph()))))
    graph_model = g.infer_shapes(folded)
    names = [v.name or "" for v in tensors_to_measure(graph_model)]
    if not names:
        raise ModelError(
            f"model {model.name!r} has no Conv, Gemm or MatMul with constant weights; "
            "there is nothing to calibrate"
        )
    graph_model.metadata_props.pop(QUANTIZED_KEY, None)
    for node in graph_model.graph:
        node.metadata_props.pop(WINDOW_KEY, None)
    ranges = measure(graph_model, names, model.name, samples)
    return Model.from_graph(write_qdq(graph_model, ranges), model.name)


def measure(
    graph_model: ir.Model, names: list[str], model_name: str, samples: Array | Mapping[str, Array]
) -> Ranges:
    """Smallest and largest value of some tensors over all samples, computed in float32."""
    observed = _with_ranges(graph_model, names)
    model = Model.from_graph(observed, model_name)
    arrays = dict(samples) if isinstance(samples, Mapping) else {model.inputs[0].name: samples}
    rows = {n: len(a) for n, a in arrays.items() if isinstance(a, np.ndarray) and a.ndim}
    count = min(rows.values(), default=0)
    if not count or len(set(rows.values())) > 1:
        raise InputError(f"samples have {rows or 'no'} rows; expected the same number of each, > 0")
    program = device("onnxruntime").compile(model, batch_size=min(BATCH, count))
    size = program.batch_size
    if count % size and count < size:
        raise InputError(f"samples have {count} rows; the model takes {size} at once")
    found: Ranges = {}
    for start in [*range(0, count - size + 1, size), count - size]:  # the last batch may overlap
        batch = {n: a[start : start + size] for n, a in arrays.items()}
        outputs = program.run(batch)
        assert isinstance(outputs, dict)
        for name in names:
            low, high = (float(outputs[f"{name}/{key}"]) for key in ("min", "max"))
            held = found.get(name, (low, high))
            found[name] = (min(held[0], low), max(held[1], high))
    return found


def _with_ranges(graph_model: ir.Model, names: list[str]) -> ir.Model:
    """A copy of the graph that also returns the range of each tensor."""
    copy = g.from_bytes(g.to_bytes(graph_model))
    values = {v.name: v for v in copy.graph.inputs}
    values.update({o.name: o for node in copy.graph for o in node.outputs})
    for name in names:
        for key, op_type in (("min", "ReduceMin"), ("max", "ReduceMax")):
            node = ir.node(op_type, [values[name]], attributes={"keepdims": 0}, num_outputs=1)
            (out,) = node.outputs
            out.name, out.shape, out.dtype = f"{name}/{key}", ir.Shape(()), ir.DataType.FLOAT
            copy.graph.append(node)
            copy.graph.outputs.append(out)
    return copy
