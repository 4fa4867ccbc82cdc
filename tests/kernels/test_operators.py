"""Bound operators: fused quantization, borders, strides, shared memory, layout."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracle import ConvCase, conv_cases

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Conv, Pool, QTensor, Quantize, ToNCHW, ToNHWC


def bind_source(case: ConvCase, pool: Pool) -> QTensor:
    x = case.data()["x"]
    src = QTensor(x.shape, case.window, case.signed, case.pads)
    Quantize(x, src, pool)()
    return src


def bind(case: ConvCase, src: QTensor, pool: Pool, **more: Any) -> Conv:
    options = {**case.options(), "bias": case.data()["bias"], **more}
    return Conv(src, case.pack(), pool=pool, **options)


@given(conv_cases())
def test_quantize_equals_function_and_keeps_border(case: ConvCase) -> None:
    src, d = bind_source(case, Pool(case.threads)), case.data()
    assert np.array_equal(src.q, d["q"])
    assert np.array_equal(src.scale, d["scale"])


@given(conv_cases(), st.integers(1, 200), st.booleans())
def test_conv_fused_quantization_equals_two_steps(
    case: ConvCase, window: int, signed: bool
) -> None:
    pool = Pool(case.threads)
    src = bind_source(case, pool)
    y = case.run(kernels.isa())
    got, dst = np.zeros_like(y), QTensor(y.shape, window, signed, (1, 2, 0, 1))
    bind(case, src, pool, dst=got, dst_q=dst)()
    q, scale = kernels.quantize_windows(y, window, signed)
    assert got.tobytes() == y.tobytes()
    assert np.array_equal(dst.q, q)
    assert np.array_equal(dst.scale, scale)


def test_conv_only_quantized_output(rng: np.random.Generator) -> None:
    case, pool = ConvCase(seed=1), Pool(1)
    y = case.run(kernels.isa())
    dst = QTensor(y.shape, 8, True)
    bind(case, bind_source(case, pool), pool, dst_q=dst)()
    assert np.array_equal(dst.q, kernels.quantize_windows(y, 8)[0])


def test_conv_writes_a_slice_of_channels() -> None:
    """Concatenation along channels without a copy."""
    case, pool = ConvCase(seed=1), Pool(1)
    y = case.run(kernels.isa())
    whole = np.full((*y.shape[:3], y.shape[3] + 5), 7, np.float32)
    bind(case, bind_source(case, pool), pool, dst=whole[..., 2 : 2 + y.shape[3]])()
    assert np.array_equal(whole[..., 2:-3], y)
    assert np.all(whole[..., :2] == 7)
    assert np.all(whole[..., -3:] == 7)


def test_shared_memory_border_is_written_again(isa: str) -> None:
    case, pool = ConvCase(seed=4), Pool(2)
    want = case.run(isa)
    x, halo = case.data()["x"], case.pads
    memory = np.empty(QTensor.nbytes_for(x.shape, case.window, halo) + 64, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :][: memory.size - 64]
    src = QTensor(x.shape, case.window, case.signed, halo, memory)
    got = np.empty_like(want)
    with kernels.use_isa(isa):
        quantize, conv = Quantize(x, src, pool), bind(case, src, pool, dst=got)
    memory[...] = 0xFF  # another tensor lived here: NaN as scales
    quantize()
    conv()
    assert got.tobytes() == want.tobytes()


def test_conv_into_shared_memory_writes_its_border() -> None:
    case, pool = ConvCase(seed=4), Pool(2)
    y = case.run(kernels.isa())
    dst = QTensor(y.shape, 8, True, (1, 1, 1, 1))
    memory = np.full(dst.memory.size + 64, 0xFF, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :][: dst.memory.size]
    shared = QTensor(y.shape, 8, True, (1, 1, 1, 1), memory)
    src = bind_source(case, pool)
    conv, conv_shared = (bind(case, src, pool, dst_q=t) for t in (dst, shared))
    memory[...] = 0xFF
    conv()
    conv_shared()
    n, h, w, c = y.shape
    pixels = n * (h + 2) * (w + 2) * c
    assert np.array_equal(memory[:pixels], dst.memory[:pixels])


def test_nonfinite_output_is_error_then_recovers() -> None:
    case, pool = ConvCase(seed=1), Pool(1)
    src = bind_source(case, pool)
    bias = np.zeros(8, np.float32)
    bias[3] = np.inf
    residual = np.zeros(case.run(kernels.isa()).shape, np.float32)
    conv = bind(case, src, pool, residual=residual, dst_q=QTensor(residual.shape, 8, True))
    residual[0, 1, 2, 3] = np.nan
    with pytest.raises(KernelError, match="NaN or infinity"):
        conv()
    residual[...] = 0
    conv()


def test_operator_keeps_its_arrays_alive() -> None:
    case, pool = ConvCase(seed=5), Pool(2)
    got = np.empty_like(case.run(kernels.isa()))
    conv = bind(case, bind_source(case, pool), pool, dst=got)
    del pool
    gc.collect()
    conv()
    assert np.array_equal(got, case.run(kernels.isa()))


@given(st.tuples(*[st.integers(1, 40)] * 4), st.integers(1, 2))
def test_layout_round_trip(shape: tuple[int, int, int, int], threads: int) -> None:
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    n, c, h, w = shape
    pool, nhwc, back = Pool(threads), np.empty((n, h, w, c), np.float32), np.empty_like(x)
    ToNHWC(x, nhwc, pool)()
    ToNCHW(nhwc, back, pool)()
    assert np.array_equal(nhwc, x.transpose(0, 2, 3, 1))
    assert np.array_equal(back, x)


def cut(whole: QTensor, sizes: list[int]) -> list[QTensor]:
    """Ranges of channels of the given sizes, in order."""
    ends = np.cumsum(sizes).tolist()
    return [whole.channels(end - size, end) for end, size in zip(ends, sizes, strict=True)]


@given(conv_cases(), st.integers(1, 30), st.booleans(), st.booleans())
def test_parts_of_a_concatenation_equal_quantizing_the_whole(
    case: ConvCase, window: int, signed: bool, shared: bool
) -> None:
    """A convolution, a pooling and a quantization write their channels of one tensor."""
    pool, y = Pool(case.threads), case.run(kernels.isa())
    oc, sizes = y.shape[3], [window, 2 * window, y.shape[3]]
    shape, halo = (*y.shape[:3], sum(sizes)), (1, 0, 2, 1)
    memory = QTensor(shape, window, signed, halo).memory if shared else None
    whole = QTensor(shape, window, signed, halo, memory)
    parts = cut(whole, sizes)
    x = np.random.default_rng(case.seed).standard_normal(shape, np.float32)
    x[..., -oc:] = y
    first, second, _ = (np.ascontiguousarray(p) for p in np.split(x, np.cumsum(sizes)[:2], 3))
    if shared:
        whole.memory[...] = 0xFF
    Quantize(first, parts[0], pool)()
    one: dict[str, Any] = {"kernel": (1, 1), "out_shape": y.shape[1:3], "pool": pool}
    kernels.Pooling(second, "max", dst_q=parts[1], **one)()
    bind(case, bind_source(case, pool), pool, dst_q=parts[2])()
    want = QTensor(shape, window, signed, halo)
    Quantize(x, want, pool)()
    assert np.array_equal(whole.q, want.q)
    pixels = y.shape[0] * (y.shape[1] + 3) * (y.shape[2] + 1)
    scales = slice(-(-(pixels * -(-shape[3] // 4) * 4 + 64) // 64) * 64, None)
    count = pixels * want.scale.shape[3]
    assert np.array_equal(  # border too
        whole.memory[scales].view(np.float32)[:count], want.memory[scales].view(np.float32)[:count]
    )


@given(conv_cases(), st.integers(0, 3))
def test_conv_reads_a_range_of_channels(case: ConvCase, before: int) -> None:
    d, pool = case.data(), Pool(case.threads)
    window = min(case.window, d["x"].shape[3])
    total = before * window + d["x"].shape[3]
    whole = QTensor((*d["x"].shape[:3], total), window, case.signed, case.pads)
    whole.q[...] = 255
    Quantize(d["x"], whole.channels(before * window, total), pool)()
    y = case.run(kernels.isa())
    got = np.empty_like(y)
    bind(case, whole.channels(before * window, total), pool, dst=got)()
    assert got.tobytes() == y.tobytes()


def test_conv_grows_the_tensor_that_it_reads() -> None:
    """As in a dense block: the input is one range of channels, the output the next."""
    case, pool = ConvCase(seed=2, icg=8, ocg=8, pads=(1, 1, 1, 1)), Pool(1)
    d, y = case.data(), case.run(kernels.isa())
    whole = QTensor((1, *case.size, 16), 8, True, case.pads)
    src, dst = cut(whole, [8, 8])
    Quantize(d["x"], src, pool)()
    bind(case, src, pool, dst_q=dst)()
    assert np.array_equal(dst.q, kernels.quantize_windows(y, 8)[0])
    assert np.array_equal(src.q, d["q"])
    with pytest.raises(KernelError, match="overlap"):
        bind(case, src, pool, dst_q=whole.channels(0, 8))


def test_range_of_a_range_and_its_lifetime(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 2, 3, 10), np.float32)
    whole = QTensor(x.shape, 4, True, (1, 1, 1, 1))
    part = whole.channels(4, 10).channels(4, 6)
    Quantize(x, whole, Pool(1))()
    want, nbytes = whole.q[..., 8:].copy(), whole.nbytes
    del whole
    gc.collect()
    assert np.array_equal(part.q, want)
    assert (part.shape, part.window, part.nbytes) == ((1, 2, 3, 2), 2, nbytes)
