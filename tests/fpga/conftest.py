"""A small network for card tests: y = 3 x + row number, with shapes that give the engine work."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from card_networks import affine, conv

from accel.fpga import Network
from accel.fpga.network import Arrays


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
