"""A convolution that adds the sums of another one: the bits of a float32 residual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Conv, Dense, Pool, QTensor, Quantize

Array = np.ndarray[Any, Any]
BORDER = (1, 1, 1, 1)


def tensor(rng: np.random.Generator, shape: tuple[int, int, int, int], window: int) -> QTensor:
    made = QTensor(shape, window, True, BORDER)
    Quantize(rng.standard_normal(shape, np.float32), made, Pool(1))()
    return made


def pack(rng: np.random.Generator, shape: tuple[int, ...], window: int, weight_window: int) -> Any:
    qw = rng.integers(-127, 128, shape).astype(np.int8)
    scales = shape[:1]
    if weight_window:
        scales = (*shape[:3], -(-shape[3] // weight_window))
    scale = rng.random(scales, np.float32) / 500
    return kernels.pack_weights(qw, scale, window, weight_window=weight_window or None)


def layers(
    rng: np.random.Generator, size: tuple[int, int], oc: int, weight_window: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A 3x3 of 40 channels, and a 1x1 at stride 2 of 24."""
    high, wide = size
    first = {
        "src": tensor(rng, (2, high, wide, 40), 16),
        "weights": pack(rng, (oc, 3, 3, 40), 16, weight_window),
        "bias": rng.standard_normal(oc, np.float32),
        "pads": BORDER,
    }
    second = {
        "src": tensor(rng, (2, 2 * high - 1, 2 * wide, 24), 8),
        "weights": pack(rng, (oc, 1, 1, 24), 8, weight_window),
        "bias": rng.standard_normal(oc, np.float32),
        "strides": (2, 2),
    }
    return first, second


@pytest.mark.parametrize("isa", kernels.isas())
@pytest.mark.parametrize("weight_window", [0, 16])
@pytest.mark.parametrize(("size", "oc"), [((7, 31), 150), ((5, 1), 64), ((1, 1), 40)])
def test_shortcut_adds_the_bits_of_a_float_residual(
    isa: str, weight_window: int, size: tuple[int, int], oc: int, rng: np.random.Generator
) -> None:
    with kernels.use_isa(isa):
        first, second = layers(rng, size, oc, weight_window)
    shape = (2, *size, oc)
    residual = np.empty(shape, np.float32)
    Conv(**second, dst=residual, pool=Pool(1))()
    for threads, activation, quantized in (
        (1, "relu", True),
        (2, "silu", True),
        (3, "none", False),
    ):
        found: list[list[Array]] = []
        for added in (residual, Dense(**second)):
            dst, dst_q = np.empty(shape, np.float32), QTensor(shape, 32, True)
            Conv(**first, residual=added, activation=activation, dst=dst,
                 dst_q=dst_q if quantized else None, pool=Pool(threads))()  # fmt: skip
            found.append([dst, dst_q.q, dst_q.scale])
        for want, got in zip(*found, strict=True):
            np.testing.assert_array_equal(got, want)


def test_shortcut_that_cannot_be_added_is_refused(rng: np.random.Generator) -> None:
    first, second = layers(rng, (4, 5), 32, 0)
    dst = np.empty((2, 4, 5, 32), np.float32)

    def bind(residual: Dense, **changes: Any) -> None:
        Conv(**{**first, "residual": residual, "dst": dst, "pool": Pool(1), **changes})

    bind(Dense(**second))
    with pytest.raises(KernelError, match="shape"):
        bind(Dense(**{**second, "strides": (1, 1)}))
    with pytest.raises(KernelError, match="activation"):
        bind(Dense(**second, activation="relu"))
    channels = kernels.pack_weights(
        np.ones((40, 3, 3, 1), np.int8), np.ones(40, np.float32), 16, groups=40
    )
    whole = kernels.pack_weights(np.ones((40, 1, 1, 24), np.int8), np.ones(40, np.float32), 8)
    with pytest.raises(KernelError, match="one group"):
        bind(Dense(**{**second, "weights": whole, "bias": None}), weights=channels, bias=None,
             dst=np.empty((2, 4, 5, 40), np.float32))  # fmt: skip
    over = QTensor((2, 4, 5, 32), 32, True, memory=second["src"].memory)
    with pytest.raises(KernelError, match="overlap"):
        bind(Dense(**second), dst=None, dst_q=over)
