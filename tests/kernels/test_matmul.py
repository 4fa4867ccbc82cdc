"""The product of two activations: static packed weights and float64 as oracles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import kernels
from accel.errors import KernelError

Array = np.ndarray[Any, Any]
FLOAT_BUDGET = 2e-6  # of the sum of absolute products: rounding of float sums


@dataclass(frozen=True)
class Case:
    """Matrices (..., M, K) and (..., K, N), each perhaps the view of a transposition."""

    seed: int = 0
    lead: tuple[int, ...] = (2,)
    other: tuple[int, ...] = (2,)
    m: int = 9
    n: int = 37
    k: int = 45
    window: int = 16
    signed: bool = True
    scale: float = 0.5
    turned: tuple[bool, bool] = (False, False)
    spread: float = 0.0
    softmax: bool = False
    mask: tuple[int, ...] | None = None  # its shape

    def factors(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(self.seed)
        a = self._draw(rng, (*self.lead, self.m, self.k), self.turned[0])
        b = self._draw(rng, (*self.other, self.k, self.n), self.turned[1])
        return (a if self.signed else np.abs(a)), b

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...], turn: bool) -> Array:
        shape = (*shape[:-2], shape[-1], shape[-2]) if turn else shape
        x = rng.standard_normal(shape) * np.exp2(self.spread * rng.standard_normal(shape))
        x = (x * (rng.random(shape) < 0.9)).astype(np.float32)
        return x.swapaxes(-1, -2) if turn else x

    def added(self) -> Array | None:
        """What a softmax adds to a: rows like those of attention, of which some places are shut."""
        if self.mask is None:
            return None
        rng = np.random.default_rng(self.seed + 1)
        mask = np.where(rng.random(self.mask) < 0.3, np.float32(-np.inf), np.float32(0.5))
        mask[..., 0] = 0
        return mask.astype(np.float32)

    def run(self, isa: str, threads: int = 1, gemm: int | None = None) -> Array:
        with kernels.use_isa(isa):
            return kernels.qmatmul(*self.factors(), self.window, signed=self.signed,
                                   scale=self.scale, softmax=self.softmax, mask=self.added(),
                                   threads=threads, gemm=gemm)  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lead = draw(st.sampled_from([(), (1,), (3,), (2, 3)]))
    other = draw(st.sampled_from([(), lead, lead[1:], tuple(1 for _ in lead)]))
    small, sides = st.integers(1, 10), st.sampled_from([31, 32, 33, 48, 64, 65, 130])
    m, n, k = (draw(small | sides) for _ in range(3))
    return Case(
        seed=draw(st.integers(0, 2**32 - 1)),
        lead=lead,
        other=other,
        m=m,
        n=n,
        k=k,
        window=draw(st.sampled_from([1, 5, 16, 32, 64, 512])),
        signed=draw(st.booleans()),
        scale=draw(st.sampled_from([1.0, -0.25, 0.1, 0.0])),
        turned=(draw(st.booleans()), draw(st.booleans())),
        spread=draw(st.sampled_from([0.0, 3.0, 10.0])),
    )


@st.composite
def softmax_cases(draw: st.DrawFn) -> Case:
    case = draw(cases())
    lead = np.broadcast_shapes(case.lead, case.other)
    masks = [None, (1, case.k), (case.m, case.k), (*lead, 1, case.k)]
    return replace(case, softmax=True, spread=0.0, mask=draw(st.sampled_from(masks)))


def levels(x: Array, window: int, signed: bool) -> tuple[Array, Array]:
    """Levels around 0 and scales of rows."""
    q, scale = kernels.quantize_windows(np.ascontiguousarray(x), window, signed)
    return q.astype(np.int64) - (128 if signed else 0), scale


def by_static_weights(case: Case, a: Array, b: Array) -> Array:
    """One pair of matrices by `qgemm`, the columns of b packed as weights; scale is left out."""
    window = min(case.window, case.k)
    q, scale = kernels.quantize_windows(np.ascontiguousarray(a), window, case.signed)
    qw, sw = levels(b.T, window, True)
    weights = kernels.pack_weights(
        qw.astype(np.int8), sw, window, weight_window=window, signed=case.signed
    )
    return kernels.qgemm(q, scale, weights)


def pairs(case: Case) -> tuple[tuple[int, ...], Array, Array]:
    a, b = case.factors()
    lead = np.broadcast_shapes(case.lead, case.other)
    a, b = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, b))
    return lead, a.reshape(-1, case.m, case.k), b.reshape(-1, case.k, case.n)


@given(cases())
def test_matmul_equals_static_weights_bit_for_bit(case: Case) -> None:
    lead, a, b = pairs(case)
    for isa in kernels.isas():
        with kernels.use_isa(isa):
            want = np.stack([by_static_weights(case, x, y) for x, y in zip(a, b, strict=True)])
        want = np.float32(case.scale) * want + np.float32(0)  # -0 becomes +0
        assert np.array_equal(case.run(isa), want.reshape(*lead, case.m, case.n)), isa


@given(cases())
def test_matmul_isas_and_threads_agree_bit_for_bit(case: Case) -> None:
    want = case.run("scalar").tobytes()
    for isa in kernels.isas():
        assert case.run(isa, threads=2).tobytes() == want, isa


@given(cases())
def test_matmul_foreign_product_same_bytes(mkl_gemm: int, case: Case) -> None:
    for isa in kernels.isas():
        assert case.run(isa, 2, mkl_gemm).tobytes() == case.run("scalar").tobytes(), isa


@given(softmax_cases())
def test_softmax_isas_threads_and_foreign_product_agree_bit_for_bit(
    mkl_gemm: int, case: Case
) -> None:
    want = case.run("scalar").tobytes()
    for isa in kernels.isas():
        assert case.run(isa, threads=2).tobytes() == want, isa
        assert case.run(isa, gemm=mkl_gemm).tobytes() == want, isa


@given(softmax_cases())
def test_softmax_close_to_float64(case: Case) -> None:
    """A level of every window and of b at most."""
    _, a, b = pairs(case)
    lead = np.broadcast_shapes(case.lead, case.other)
    scores = a.reshape(*lead, case.m, case.k).astype(np.float64)
    mask = case.added()
    scores = scores + (0 if mask is None else mask)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = e / e.sum(axis=-1, keepdims=True)
    b = b.reshape(*lead, case.k, case.n).astype(np.float64)
    step_a = steps(shares, case.window, 255)
    step_b = steps(b.swapaxes(-1, -2), case.window, 127).swapaxes(-1, -2)
    budget = abs(case.scale) * (step_a @ np.abs(b) + (shares + step_a) @ step_b)
    got = case.run(kernels.isa())
    assert np.all(np.abs(got - case.scale * (shares @ b)) <= budget + 1e-30)


def steps(x: Array, window: int, count: int) -> Array:
    """What one level of the window of each element is."""
    starts = np.arange(0, x.shape[-1], window)
    top = np.maximum.reduceat(np.abs(x), starts, axis=-1)
    return np.repeat(top, window, axis=-1)[..., : x.shape[-1]] / count


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_softmax_of_a_row_without_a_finite_largest_is_an_error(isa: str, value: float) -> None:
    a, b = np.zeros((2, 3, 40), np.float32), np.ones((2, 40, 5), np.float32)
    mask = np.zeros((3, 40), np.float32)
    mask[1] = value
    with kernels.use_isa(isa), pytest.raises(KernelError, match="no softmax"):
        kernels.qmatmul(a, b, 32, softmax=True, mask=mask)


def test_softmax_leaves_out_what_is_masked(isa: str, rng: np.random.Generator) -> None:
    a = rng.standard_normal((3, 40), np.float32)
    b = rng.standard_normal((40, 5), np.float32)
    mask = np.full((1, 40), -np.inf, np.float32)
    mask[0, 7] = 0
    with kernels.use_isa(isa):
        y = kernels.qmatmul(a, b, 1, softmax=True, mask=mask)
    np.testing.assert_allclose(y, np.broadcast_to(b[7], (3, 5)), rtol=1e-6)


@given(cases())
def test_matmul_close_to_float64(case: Case) -> None:
    _, a, b = pairs(case)
    got = case.run(kernels.isa()).reshape(-1, case.m, case.n)
    for x, y, found in zip(a, b, got, strict=True):
        p, q = (
            real(*levels(x, case.window, case.signed), case.window),
            real(*levels(y.T, case.window, True), case.window).T,
        )
        size = abs(case.scale) * (np.abs(p) @ np.abs(q))
        assert np.all(np.abs(found - case.scale * (p @ q)) <= FLOAT_BUDGET * size + 1e-37)


def real(q: Array, scale: Array, window: int) -> Array:
    """The float64 values of levels."""
    return q * np.repeat(scale.astype(np.float64), window, axis=-1)[..., : q.shape[-1]]


def test_matmul_writes_into_a_transposition(isa: str, rng: np.random.Generator) -> None:
    """Heads side by side, as attention joins them, and nothing between them is touched."""
    a, b = rng.standard_normal((4, 6, 10), np.float32), rng.standard_normal((4, 10, 8), np.float32)
    room = np.full((6, 4, 9), 7, np.float32)
    with kernels.use_isa(isa):
        kernels.MatMul(a, b, room[:, :, :8].transpose(1, 0, 2), window=32, pool=kernels.Pool(2))()
        want = kernels.qmatmul(a, b, 32)
    assert np.array_equal(room[:, :, :8], want.transpose(1, 0, 2))
    assert (room[:, :, 8] == 7).all()


@pytest.mark.parametrize("factor", ["a", "b"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_matmul_of_nonfinite_values_says_where(isa: str, factor: str, value: float) -> None:
    x = {"a": np.ones((2, 3, 40), np.float32), "b": np.ones((2, 40, 5), np.float32)}
    x[factor][1, 2, 3] = value
    with kernels.use_isa(isa), pytest.raises(KernelError, match=rf"{factor} holds .*\(1, 2, 3\)"):
        kernels.qmatmul(x["a"], x["b"], 32)


def test_matmul_is_bound_once_and_reads_what_is_there(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((5, 33), np.float32), rng.standard_normal((33, 40), np.float32)
    y = np.empty((5, 40), np.float32)
    bound = kernels.MatMul(a, b, y, window=32, pool=kernels.Pool(1))
    for _ in range(2):
        a *= 2
        b[:, 0] = 0
        bound()
        assert np.array_equal(y, kernels.qmatmul(a, b, 32))
    with pytest.raises(KernelError, match="already bound"):
        bound.__init__(a, b, y, window=32, pool=kernels.Pool(1))  # type: ignore[misc]
