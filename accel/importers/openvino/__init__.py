"""OpenVINO's frontends, and its operators in ONNX."""

from __future__ import annotations

from accel.importers.openvino.lowering import (
    load_openvino,
    lower_openvino,
    read_with_frontend,
    unreadable,
)

__all__ = ["load_openvino", "lower_openvino", "read_with_frontend", "unreadable"]
