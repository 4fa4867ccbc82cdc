"""What must hold for every network, tried on random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import Case, cases

import accel

# A short random network is the worst case for rounding noise: nothing averages it away.
RELATIVE_ERROR = 0.04

Array = np.ndarray[Any, Any]
few = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def run(model: accel.Model, x: Array, device: str = "cpu", **options: Any) -> Array:
    y = accel.device(device).compile(model, **options).run(x)
    assert isinstance(y, np.ndarray)
    return y


@few
@given(cases())
def test_int8_stays_near_fp32(case: Case) -> None:
    model = accel.load(case.data)
    expected = run(model, case.x, "onnxruntime")
    found = run(model.quantize(), case.x)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert np.linalg.norm(found - expected) <= RELATIVE_ERROR * np.linalg.norm(expected) + 1e-6


@few
@given(cases())
def test_batch_and_threads_do_not_change_a_bit(case: Case) -> None:
    model = accel.load(case.data).quantize()
    expected = run(model, case.x)
    for options in ({"batch_size": 3}, {"batch_size": 2, "threads": 2}):
        assert run(model, case.x, **options).tobytes() == expected.tobytes()
    assert run(model, case.x[::-1].copy())[::-1].tobytes() == expected.tobytes()


@few
@given(cases())
def test_mkl_equals_cpu_bit_for_bit(case: Case) -> None:
    model = accel.load(case.data).quantize()
    assert run(model, case.x, "mkl").tobytes() == run(model, case.x).tobytes()


@few
@given(cases())
def test_stored_model_gives_the_same_bits(case: Case) -> None:
    model = accel.load(case.data).quantize()
    stored = accel.load(model.to_bytes())
    assert stored.is_quantized and stored.windows == model.windows
    assert run(stored, case.x).tobytes() == run(model, case.x).tobytes()


@few
@given(cases(), st.sampled_from([-100, -40, 20, 60]))
def test_inputs_of_any_size_give_finite_outputs(case: Case, exponent: int) -> None:
    """Scales follow the data: nothing overflows or divides by zero between 2^-100 and 2^60."""
    x = case.x * np.float32(2.0**exponent)
    assert np.isfinite(run(accel.load(case.data).quantize(), x)).all()
