"""Packed weights that are used where they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from accel import kernels
from accel.errors import KernelError
from tests.kernels.kernel_oracle import ConvCase, conv_cases

Array = np.ndarray[Any, Any]


def aligned(blob: Array, shift: int = 0) -> Array:
    raw = np.empty(len(blob) + 128, np.uint8)
    start = -raw.ctypes.data % 64 + shift
    raw[start : start + len(blob)] = blob
    return raw[start : start + len(blob)]


def mapped(case: ConvCase, blob: Array) -> kernels.PackedWeights:
    shape = case.data()["qw"].shape
    options = {"weight_window": case.weight_window, "fine": case.fine}
    return kernels.map_weights(
        blob, shape, case.window, signed=case.signed, groups=case.groups, **options
    )


@given(conv_cases())
def test_mapped_weights_give_the_same_bits(case: ConvCase) -> None:
    for isa in kernels.isas():
        expected = case.run(isa)
        with kernels.use_isa(isa):
            weights = case.pack()
            again = mapped(case, aligned(weights.blob))
        assert again.nbytes == weights.nbytes == len(weights.blob)
        assert (again.mode, again.depthwise) == (weights.mode, weights.depthwise)
        d = case.data()
        y = kernels.qconv2d(d["q"], d["scale"], again, d["bias"], **case.options())
        assert np.array_equal(y, expected)


def test_any_bytes_are_safe(rng: np.random.Generator) -> None:
    for case in (ConvCase(0), ConvCase(0, groups=8, icg=1, ocg=1), ConvCase(0, window=None)):
        noise = aligned(rng.integers(0, 256, case.pack().nbytes).astype(np.uint8))
        d = case.data()
        y = kernels.qconv2d(d["q"], d["scale"], mapped(case, noise), d["bias"], **case.options())
        assert y.shape[3] == case.groups * case.ocg


def test_blob_is_read_only_and_keeps_its_weights_alive() -> None:
    blob = ConvCase(0).pack().blob
    copy = blob.copy()
    with pytest.raises(ValueError, match="read-only"):
        blob[0] = 1
    assert np.array_equal(blob, copy)


CASE = ConvCase(0)
BAD: dict[str, Callable[[Array], Any]] = {
    "too short": lambda b: mapped(CASE, aligned(b[:-64])),
    "too long": lambda b: mapped(CASE, aligned(np.append(b, b))),
    "empty": lambda b: mapped(CASE, b[:0]),
    "not aligned": lambda b: mapped(CASE, aligned(b, shift=4)),
    "not bytes": lambda b: mapped(CASE, b.view(np.int8)),
    "of another window": lambda b: mapped(replace(CASE, window=3), b),
    "of another shape": lambda b: kernels.map_weights(b, (8, 3, 8), 8),
    "of a size that overflows": lambda b: kernels.map_weights(b, (2**40, 2**40), 8),
    "of a negative size": lambda b: kernels.map_weights(b, (-8, 8), 8),
    "of groups that do not divide": lambda b: kernels.map_weights(b, (8, 3, 3, 8), 8, groups=3),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_blobs_are_refused(name: str) -> None:
    with pytest.raises(KernelError):
        BAD[name](aligned(CASE.pack().blob))


def test_mapped_depthwise_weights_keep_their_kernel_beside_a_foreign_product() -> None:
    case = ConvCase(0, groups=8, icg=1, ocg=1)
    weights, d = mapped(case, case.pack().blob), case.data()
    got = kernels.qconv2d(d["q"], d["scale"], weights, d["bias"], gemm=1, **case.options())
    assert got.tobytes() == case.run(kernels.isa()).tobytes()
