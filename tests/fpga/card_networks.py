"""Layers and values of the small networks that card tests load."""

from __future__ import annotations

import numpy as np

from accel.fpga.network import Arrays
from accel.workload import Layer


def conv(name: str, size: int, ic: int, oc: int, kernel: int = 3, groups: int = 1) -> Layer:
    """Return a square convolution of one image with stride 1 and same padding."""
    weights = kernel * kernel * ic // groups * oc
    return Layer(
        name, "Conv", 1, size, size, oc, ic, kernel, kernel, groups,
        size * size * weights, weights, size * size * ic, size * size * oc,
    )  # fmt: skip


def affine(arrays: Arrays) -> Arrays:
    """Return 3 x + row, float32."""
    x = arrays["x"].astype(np.float32)
    rows = np.arange(len(x), dtype=np.float32).reshape(-1, 1)
    return {"y": 3 * x + rows}
