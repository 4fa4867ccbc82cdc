"""Rounding of weights: bounds, exactness on a grid, and that errors cancel."""

from __future__ import annotations

import numpy as np
import pytest

from accel.passes.round_weights import round_weights


def dequantized(q: np.ndarray, scale: np.ndarray, block: int | None) -> np.ndarray:  # type: ignore[type-arg]
    if block is None:
        return q * scale[:, None, None]
    return q * np.repeat(scale, block, axis=1)[:, : q.shape[1]]


@pytest.mark.parametrize("block", [None, 1, 7, 32, 100])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 33, 9), (3, 100, 1), (8, 1, 25)])
def test_values_stay_near_and_in_range(
    block: int | None, shape: tuple[int, int, int], rng: np.random.Generator
) -> None:
    w = rng.standard_normal(shape).astype(np.float32)
    q, scale = round_weights(w, block)
    assert q.shape == w.shape and q.dtype == np.int8 and scale.dtype == np.float32
    assert q.min() >= -127 and q.max() <= 127
    expected = (shape[0],) if block is None else (shape[0], -(-shape[1] // block), shape[2])
    assert scale.shape == expected
    unit = dequantized(np.ones_like(q), scale, block)
    clipped = np.clip(w, -127 * unit, 127 * unit)
    assert (np.abs(dequantized(q, scale, block) - clipped) <= 1.001 * unit).all()


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("factor", [2, 16])
def test_fine_values_have_as_many_more_levels(
    size: float, factor: int, rng: np.random.Generator
) -> None:
    w = (rng.standard_normal((7, 90, 1)) * size).astype(np.float32)
    w[3] = 0
    q, scale = round_weights(w, None, factor)
    assert q.dtype == np.int16 and scale.dtype == np.float32 and scale.shape == (7,)
    assert 120 * factor < np.abs(q).max() <= 127 * factor and not q[3].any()
    errors = [
        np.linalg.norm(dequantized(*round_weights(w / size, None, f), None) - w / size)
        for f in (factor, 1)
    ]
    assert errors[0] < 1.1 * errors[1] / factor


@pytest.mark.parametrize("block", [None, 8])
def test_weights_on_a_grid_come_back_exactly(block: int | None, rng: np.random.Generator) -> None:
    grid = rng.integers(-127, 128, (6, 40, 9))
    grid[:, 0, 0] = 127
    w = (grid * rng.random((6, 1, 1))).astype(np.float32)
    q, scale = round_weights(w, block)
    np.testing.assert_allclose(dequantized(q, scale, block), w, rtol=1e-6)


def test_errors_of_a_filter_cancel(rng: np.random.Generator) -> None:
    w = rng.standard_normal((16, 64, 9)).astype(np.float32)
    q, scale = round_weights(w, None)
    error = w - dequantized(q, scale, None)
    nearest = w - np.rint(w / scale[:, None, None]) * scale[:, None, None]
    assert np.abs(error.sum(axis=(1, 2)) / scale).max() <= 1.0
    assert np.abs(error.sum(axis=2)).mean() < 0.5 * np.abs(nearest.sum(axis=2)).mean()


def test_zero_and_tiny_filters_are_stored_as_zeros() -> None:
    w = np.zeros((3, 4, 1), np.float32)
    w[1] = 1e-40
    w[2, 0] = 1.0
    q, scale = round_weights(w, None)
    assert not q[:2].any() and (scale[:2] == 1).all() and q[2, 0, 0] == 127


def test_blocks_of_zeros_take_the_scale_of_their_filter() -> None:
    """A larger one would coarsen the 16-bit weights of a depthwise layer, whose unit it becomes."""
    w = np.array([[[0.5, 0.0, 0.1]], [[0.0, 0.0, 0.0]]], np.float32)
    q, scale = round_weights(w, 1)
    assert q[0, 0].tolist() == [127, 0, 127] and not q[1].any()
    assert scale[0, 0, 1] == scale[0].max() < 0.01 and (scale[1] == 1).all()


def test_large_layers_are_rounded_in_parts_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    w = rng.standard_normal((9, 12, 4)).astype(np.float32)
    q, scale = round_weights(w, 5)
    monkeypatch.setattr("accel.passes.round_weights.CHUNK", 100)
    again_q, again_scale = round_weights(w, 5)
    np.testing.assert_array_equal(q, again_q)
    np.testing.assert_array_equal(scale, again_scale)


def test_scales_end_in_zeros_unless_weights_lie_on_a_grid(rng: np.random.Generator) -> None:
    w = rng.standard_normal((20, 64, 1)).astype(np.float32)
    _, scale = round_weights(w, None)
    assert ((scale.view(np.uint32) & 0x7FFF) == 0).mean() > 0.9
    levels = rng.integers(-127, 128, (20, 64, 1))
    levels[:, 0] = 127
    _, scale = round_weights((levels * rng.random((20, 1, 1))).astype(np.float32), None)
    assert (scale.view(np.uint32) & 0x7FFF).all()
