"""lwaccel: int8 inference with local quantization windows.

import accel
model = accel.load("model.onnx").quantize()
program = accel.device("cpu").compile(model)
y = program.run(x)
"""

from __future__ import annotations

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
from accel.model import Model, load
from accel.program import Job, Program
from accel.programs import Programs
from accel.saved import load_program
from accel.tensor_spec import TensorSpec

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
