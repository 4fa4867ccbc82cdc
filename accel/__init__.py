"""lwaccel: int8 inference with local quantization windows.

import accel
model = accel.load("model.onnx").quantize()
program = accel.device("cpu").compile(model)
y = program.run(x)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accel.detector import Detections, Detector
from accel.device import Device, DeviceInfo, device, devices
from accel.errors import (
    AccelError,
    CardError,
    DeviceError,
    ImageError,
    InputError,
    KernelError,
    ModelError,
    UnsupportedError,
)
from accel.explain import Explanation
from accel.program import Job, Program
from accel.programs import Programs
from accel.saved import load_program
from accel.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from accel.model import Model, load

__version__ = "0.1.0"

__all__ = [
    "AccelError",
    "CardError",
    "Detections",
    "Detector",
    "Device",
    "DeviceError",
    "DeviceInfo",
    "Explanation",
    "ImageError",
    "InputError",
    "Job",
    "KernelError",
    "Model",
    "ModelError",
    "Program",
    "Programs",
    "TensorSpec",
    "UnsupportedError",
    "device",
    "devices",
    "load",
    "load_program",
]


def __getattr__(name: str) -> Any:
    """Model and load bring the ONNX libraries, half a second that a saved program does without."""
    if name not in ("Model", "load"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from accel import model

    return getattr(model, name)
