"""Convolutions and matrix products: every instruction set, all modes, against float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracle import ACTIVATIONS, FLOAT_BUDGET, ConvCase, conv_cases, depthwise

from accel import kernels


def check_isas_agree(case: ConvCase, **more: Any) -> None:
    """The contract of a table row: the bytes of the scalar reference."""
    want = case.run("scalar", **more)
    for name in kernels.isas()[1:]:
        assert case.run(name, **more).tobytes() == want.tobytes(), name


def check_close(case: ConvCase, got: np.ndarray) -> None:
    y, size = case.exact()
    bias = case.data()["bias"].astype(np.float64)
    budget = FLOAT_BUDGET * (size + np.abs(bias))
    if case.is_depthwise:
        budget += depthwise(case)[1]
    assert np.all(np.abs(got - y - bias) <= budget)


@given(conv_cases())
def test_conv_isas_agree_bit_for_bit(case: ConvCase) -> None:
    check_isas_agree(case)


@given(conv_cases() | conv_cases(depthwise=True))
def test_huge_values_isas_agree_bit_for_bit(case: ConvCase) -> None:
    """Sums beyond the range, and infinities that cancel to NaN, are results like others."""
    check_isas_agree(replace(case, values="huge", arrays={}))


@given(conv_cases(windows=False) | conv_cases(depthwise=True, windows=False))
def test_one_scale_isas_agree_bit_for_bit(case: ConvCase) -> None:
    check_isas_agree(case)


@given(conv_cases(windows=False) | conv_cases(depthwise=True, windows=False))
def test_one_scale_scalar_close_to_float64(case: ConvCase) -> None:
    case = replace(case, activation="none", arrays={})
    check_close(case, case.run("scalar"))


@given(conv_cases(windows=False))
def test_one_scale_foreign_product_same_bytes(mkl_gemm: int, case: ConvCase) -> None:
    assert case.run(kernels.isa(), gemm=mkl_gemm).tobytes() == case.run("scalar").tobytes()


@pytest.mark.parametrize("signed", [True, False])
def test_one_scale_deepest_sum_does_not_overflow(isa: str, signed: bool, mkl_gemm: int) -> None:
    """255 * 127 * 66311 is below 2**31 by a little."""
    case = ConvCase(
        seed=1,
        size=(3, 3),
        icg=7368 - 1,
        ocg=5,
        kernel=(3, 3),
        pads=(0, 0, 0, 0),
        window=None,
        signed=signed,
        values="saturating",
    )
    y, _ = case.exact()
    want = y.astype(np.float32) + case.data()["bias"]
    assert np.abs(want).max() > 2**30 * case.data()["sw"].max() / 2
    for gemm in (None, mkl_gemm):
        got = case.run(isa, gemm=gemm)
        assert np.allclose(got, want, rtol=2e-7, atol=0)


@given(conv_cases(depthwise=True))
def test_depthwise_isas_agree_bit_for_bit(case: ConvCase) -> None:
    check_isas_agree(case)


@given(conv_cases())
def test_conv_scalar_close_to_float64(case: ConvCase) -> None:
    case = replace(case, activation="none", arrays={})
    check_close(case, case.run("scalar"))


@given(conv_cases(depthwise=True))
def test_depthwise_scalar_close_to_float64(case: ConvCase) -> None:
    case = replace(case, activation="none", arrays={})
    check_close(case, case.run("scalar"))


@pytest.mark.parametrize("row", kernels.table(), ids=lambda row: row["name"])
def test_kernel_tile_edges_equal_scalar(row: dict[str, Any]) -> None:
    """Sizes around the register tile, and deep sums of extreme values."""
    window = 2 if row["mode"] == "aw" else None
    for pixels in (1, row["mr"] - 1, row["mr"], row["mr"] + 1, 4 * row["mr"] + 1):
        for channels in (row["nr"] - 1, row["nr"], row["nr"] + 1):
            groups, each = (channels, 1) if row["op"] == "depthwise" else (1, channels)
            case = ConvCase(
                seed=channels,
                size=(1, max(pixels, 1)),
                groups=groups,
                icg=1 if row["op"] == "depthwise" else 9,
                ocg=1 if row["op"] == "depthwise" else each,
                kernel=(1, 3),
                pads=(0, 1, 0, 1),
                window=None if row["mode"] == "c" else 4,
                weight_window=window,
                values="wide",
            )
            assert case.run(row["isa"]).tobytes() == case.run("scalar").tobytes()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("groups", [1, 64])
def test_saturating_values_are_exact(isa: str, signed: bool, groups: int) -> None:
    """All q and qw at their extremes, the longest chunk: int16 or float sums would be wrong."""
    case = ConvCase(
        seed=1,
        size=(2, 9),
        groups=groups,
        icg=512 if groups == 1 else 1,
        ocg=40 if groups == 1 else 1,
        window=512,
        signed=signed,
        values="saturating",
    )
    check_close(case, case.run(isa))


@given(conv_cases())
def test_conv_foreign_product_same_bytes(mkl_gemm: int, case: ConvCase) -> None:
    for name in kernels.isas():
        assert case.run(name, gemm=mkl_gemm).tobytes() == case.run(name).tobytes()


@given(conv_cases(depthwise=True))
def test_depthwise_scalar_equals_definition(case: ConvCase) -> None:
    case = replace(case, activation="none", arrays={})
    bias = case.data()["bias"].astype(np.float64)
    y, _ = depthwise(case)
    want = y + bias
    assert np.all(np.abs(case.run("scalar") - want) <= 2e-7 * (np.abs(want) + np.abs(y)))


@pytest.mark.parametrize("isa", kernels.isas())
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (7, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 1)])
def test_depthwise_over_several_tiles(
    isa: str, kernel: tuple[int, int], strides: tuple[int, int]
) -> None:
    case = ConvCase(seed=7, n=2, size=(33, 47), groups=70, icg=1, ocg=1, kernel=kernel,
                    strides=strides, pads=(2, 1, 1, 2), window=24, values="wide")  # fmt: skip
    want = depthwise(case)[0] + case.data()["bias"]
    assert np.allclose(case.run(isa), want, rtol=3e-7, atol=3e-7 * np.abs(want).max())
    assert case.run(isa).tobytes() == replace(case, threads=2).run("scalar").tobytes()


def test_depthwise_pixel_keeps_its_bits_beside_one_100_times_as_large(isa: str) -> None:
    """One large pixel coarsens its tile no more than windows of eight bits do."""
    case = ConvCase(seed=8, size=(9, 9), groups=32, icg=1, ocg=1, window=32)
    case.data()["scale"][0, 4, 4] *= 100
    y, _ = case.exact()
    far = np.ones((9, 9), bool)
    far[3:6, 3:6] = False
    error = np.abs(case.run(isa) - case.data()["bias"] - y)[0][far]
    step = case.data()["scale"][0].mean() * case.data()["sw"].max() * 127 * 9
    assert error.max() <= step


@given(conv_cases(depthwise=True))
def test_depthwise_foreign_product_same_bytes(mkl_gemm: int, case: ConvCase) -> None:
    for name in kernels.isas():
        assert case.run(name, gemm=mkl_gemm).tobytes() == case.run(name).tobytes()


def test_check_gemm_accepts_mkl(mkl_gemm: int) -> None:
    assert kernels.check_gemm(mkl_gemm)


@pytest.mark.parametrize("window", [32, 100])
def test_gemm_window_over_k_equals_per_channel(
    isa: str, rng: np.random.Generator, window: int
) -> None:
    """One window per row: y = scale * sb * (exact integer sum) + bias."""
    q = rng.integers(0, 256, (13, 32), np.uint8)
    scale = rng.random((13, 1), np.float32)
    qw = rng.integers(-127, 128, (35, 32)).astype(np.int8)
    sb, bias = rng.random(35, np.float32), rng.standard_normal(35, np.float32)
    with kernels.use_isa(isa):
        y = kernels.qgemm(q, scale, kernels.pack_weights(qw, sb, window), bias)
    acc = ((q.astype(np.int64) - 128) @ qw.T.astype(np.int64)).astype(np.float32)
    want = (acc * scale).astype(np.float64) * sb + bias
    assert np.array_equal(y, want.astype(np.float32))


@given(st.integers(-40, 40), conv_cases() | conv_cases(depthwise=True))
def test_power_of_two_scales_output_exactly(power: int, case: ConvCase) -> None:
    case = replace(case, activation="none", values="normal", arrays={})
    factor = np.float32(2.0**power)
    one = case.run(kernels.isa())
    case.data()["scale"] *= factor
    case.data()["bias"] *= factor
    assert np.array_equal(case.run(kernels.isa()), one * factor)


def test_run_dots_counts_multiplications(isa: str) -> None:
    row = next(r for r in kernels.table() if r["isa"] == isa)
    with kernels.use_isa(isa):
        assert kernels.run_dots(10) == 10 * row["mr"] * row["nr"] * row["kr"]


@pytest.mark.parametrize("spare", [0, 4, 12])
def test_probes_of_memory_count_bytes_of_whole_steps(isa: str, spare: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, 3 * 512 + spare, np.uint8)
    y = np.zeros_like(x)
    with kernels.use_isa(isa):
        read, moved = kernels.run_reads(x, 5), kernels.run_copies(x, y, 5)
    assert moved == 2 * read
    whole = read // 5
    assert x.size - 512 < whole <= x.size
    assert np.array_equal(y[:whole], x[:whole])
    assert not y[whole:].any()


def reference_activation(y: np.ndarray, kind: str) -> np.ndarray:
    values: dict[str, np.ndarray] = {
        "none": y,
        "relu": np.maximum(y, 0),
        "clip": np.clip(y, -1, 2),
        "leaky": np.where(y > 0, y, 0.1 * y),
        "hardswish": y * np.clip(y / 6 + 0.5, 0, 1),
        "silu": y / (1 + np.exp(-y)),
        "gelu": y / 2 * (1 + np.vectorize(math.erf)(y / 2**0.5)),
    }
    return values[kind]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_close_to_definition(isa: str, activation: str) -> None:
    """Over [-100, 100], bias alone carrying the value; exp at and beyond its clamps."""
    y = np.linspace(-100, 100, 4001, dtype=np.float32)
    q, scale = np.full((1, 4), 128, np.uint8), np.ones((1, 1), np.float32)
    qw = np.ones((y.size, 4), np.int8)
    with kernels.use_isa(isa):
        weights = kernels.pack_weights(qw, np.ones(y.size, np.float32), 4)
    got = kernels.qgemm(q, scale, weights, y, activation=activation, alpha=0.1, lo=-1.0, hi=2.0)
    want = reference_activation(y.astype(np.float64), activation)
    floor = {"hardswish": 4e-7, "gelu": 2e-6}.get(activation, 1e-35)  # whose gates cancel
    assert np.all(np.abs(got[0] - want) <= 4e-7 * np.abs(want) + floor)


def test_residual_is_added_before_activation(isa: str, rng: np.random.Generator) -> None:
    case = ConvCase(seed=3)
    plain = case.run(isa)
    residual = rng.standard_normal(plain.shape, np.float32)
    got = case.run(isa, residual=residual, activation="relu")
    assert np.array_equal(got, np.maximum(plain + residual, 0))
