"""Products whose windows have few levels below 0: those of their float32 results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracle import ACTIVATIONS, ConvCase

from accel import kernels

Array = np.ndarray[Any, Any]


def windows_of(case: ConvCase, isa: str, window: int, signed: int) -> tuple[Array, Array]:
    """q and scale that the layer writes."""
    d, pool = case.data(), kernels.Pool(case.threads)
    with kernels.use_isa(isa):
        src = kernels.QTensor(d["x"].shape, case.window or 1, case.signed, case.pads)
        kernels.Quantize(d["x"], src, pool)()
        dst = kernels.QTensor(case.run(isa).shape, window, signed)
        kernels.Conv(src, case.pack(), bias=d["bias"], dst_q=dst, pool=pool, **case.options())()
    return dst.q.copy(), dst.scale.copy()


@pytest.mark.parametrize("channels", [2, 4, 8, 16, 24, 32, 70])
@given(
    activation=st.sampled_from(ACTIVATIONS),
    seed=st.integers(0, 2**32 - 1),
    signed=st.integers(1, 127),
    fine=st.booleans(),
)
def test_skewed_windows_of_narrow_and_wide_layers_are_those_of_their_floats(
    channels: int, activation: str, seed: int, signed: int, fine: bool
) -> None:
    case = ConvCase(seed=seed, size=(5, 23), ocg=channels, activation=activation, fine=fine)
    want_q, want_scale = kernels.quantize_windows(case.run("scalar"), 32, signed)
    for isa in kernels.isas():
        q, scale = windows_of(case, isa, 32, signed)
        assert np.array_equal(q, want_q), isa
        assert scale.tobytes() == want_scale.tobytes(), isa
