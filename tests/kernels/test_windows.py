"""quantize_windows and dequantize_windows against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracle import SIGNS, make_values, quantize

from accel import kernels
from accel.errors import KernelError

shapes = st.tuples(st.integers(1, 5), st.integers(1, 150))
kinds = st.sampled_from(("normal", "zeros", "saturating", "denormal", "wide", "huge"))
seeds = st.integers(0, 2**32 - 1)


@given(shapes, st.integers(1, 160), SIGNS, kinds, seeds)
def test_quantize_every_isa_equals_definition(
    shape: tuple[int, int], window: int, signed: int, kind: str, seed: int
) -> None:
    x = make_values(np.random.default_rng(seed), shape, kind)
    want_q, want_scale = quantize(x, window, signed)
    for name in kernels.isas():
        with kernels.use_isa(name):
            q, scale = kernels.quantize_windows(x, window, signed)
        assert q.tobytes() == want_q.tobytes(), name
        assert scale.tobytes() == want_scale.tobytes(), name


@pytest.mark.parametrize("signed", [True, False, 1, 56, 127])
def test_dequantize_error_at_most_half_a_step(rng: np.random.Generator, signed: int) -> None:
    x = rng.standard_normal((7, 100), np.float32)
    x = x if signed else np.abs(x)
    q, scale = kernels.quantize_windows(x, 32, signed)
    y = kernels.dequantize_windows(q, scale, 32, signed)
    step = np.repeat(scale, 32, axis=1)[:, :100]
    assert np.all(np.abs(y - x) <= step * 0.5001)


@given(st.integers(-60, 60), seeds)
def test_quantize_power_of_two_scales_only_the_scale(power: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((3, 70), np.float32)
    q, scale = kernels.quantize_windows(x, 16)
    q2, scale2 = kernels.quantize_windows(x * np.float32(2.0**power), 16)
    assert np.array_equal(q, q2)
    assert np.array_equal(scale * np.float32(2.0**power), scale2)


def test_quantize_half_rounds_to_even(isa: str) -> None:
    x = np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5]], np.float32)
    with kernels.use_isa(isa):
        q, scale = kernels.quantize_windows(x, 6)
    assert scale[0, 0] == 1
    assert (q.astype(int) - 128).tolist() == [[127, 0, 2, 2, 0, -2]]


def test_quantize_unsigned_clamps_negatives(isa: str) -> None:
    x = np.array([[-1e30, 255, 3, -2]], np.float32)
    with kernels.use_isa(isa):
        q, scale = kernels.quantize_windows(x, 4, False)
    assert q.tolist() == [[0, 255, 3, 0]]
    assert scale[0, 0] == 1


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("signed", [True, False, 1, 56, 127])
def test_quantize_nonfinite_is_error(isa: str, bad: float, signed: int) -> None:
    x = np.ones((3, 40), np.float32)
    x[1, 37] = bad
    with kernels.use_isa(isa), pytest.raises(KernelError, match=r"NaN or infinity at \(1, 37\)"):
        kernels.quantize_windows(x, 16, signed)


def test_quantize_threads_and_out_give_same_bytes(rng: np.random.Generator) -> None:
    x = rng.standard_normal((333, 65), np.float32)
    one = kernels.quantize_windows(x, 32)
    out = np.empty_like(one[0]), np.empty_like(one[1])
    two = kernels.quantize_windows(x, 32, out=out, threads=2)
    assert two[0] is out[0]
    assert two[1] is out[1]
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])
