"""TFLite: a .tflite file to a graph, through OpenVINO's frontend."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from accel.importers.openvino import read_with_frontend


def import_tflite(path: Path) -> ir.Model:
    """Read a TFLite model.

    Raises
    ------
    ModelError
        Truncated, corrupt, or not a TFLite model.
    UnsupportedError
        An operator that is not known.
    DeviceError
        OpenVINO is not installed.
    """
    return read_with_frontend(path, "TFLite")
