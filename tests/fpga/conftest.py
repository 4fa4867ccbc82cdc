"""A small network for card tests: y = 3 x + row number, with shapes that give the engine work."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from accel.fpga import Network
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


@pytest.fixture
def network() -> Callable[..., Network]:
    """Return a maker of networks: `network(batch=2, width=100)`."""

    def make(batch: int = 2, width: int = 100) -> Network:
        return Network(
            "affine",
            [conv("c1", 14, 64, 64), conv("c2", 14, 64, 128)],
            {"x": ((batch, width), np.uint8)},
            {"y": ((batch, width), np.float32)},
            affine,
        )

    return make


@pytest.fixture
def batch(rng: np.random.Generator) -> Callable[..., Arrays]:
    """Return a maker of inputs that fit `network`."""

    def make(rows: int = 2, width: int = 100) -> Arrays:
        return {"x": rng.integers(0, 256, (rows, width), dtype=np.uint8)}

    return make
