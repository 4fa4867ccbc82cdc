"""A detector's description inside the graph of its model."""

from __future__ import annotations

import onnx_ir as ir

from accel import graph as g
from accel.detection.description import from_json, to_json
from accel.detection.spec import DetectorSpec
from accel.passes.fold_preprocessing import fold_preprocessing

DETECTOR_KEY = "lwaccel.detector"


def attach_spec(model: ir.Model, name: str, spec: DetectorSpec) -> ir.Model:
    """Record `spec`, and fold its normalization in where the network takes floats."""
    inputs = g.data_inputs(model.graph)
    if len(inputs) != 1 or inputs[0].dtype != ir.DataType.UINT8:
        n = spec.normalization
        model = fold_preprocessing(model, name, n.mean, n.std, n.scale, n.order)
    model.metadata_props[DETECTOR_KEY] = to_json(spec)
    return model


def attached_spec(model: ir.Model) -> DetectorSpec | None:
    """The description that `attach_spec` recorded, None where there is none."""
    text = model.metadata_props.get(DETECTOR_KEY)
    return None if text is None else from_json(text)
