"""Every wrong argument is a Python error that says what was given and what was expected."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from accel import kernels
from accel.errors import KernelError
from accel.kernels import Conv, MatMul, Pixels, Pool, Pooling, QTensor, Quantize, ToNHWC

F32 = np.float32
X = np.ones((2, 8), F32)
QW = np.ones((4, 8), np.int8)
SB = np.ones(4, F32)
CUBE = np.ones((1, 2, 2, 2), F32)
TENSOR = QTensor((1, 2, 3, 4), 4, True)
IMAGE = np.ones((1, 5, 5, 8), F32)
SOURCE = QTensor((1, 5, 5, 8), 8, True, (1, 1, 1, 1))
RAW = QTensor((1, 5, 5, 3), None, False)
FLAT = QTensor((1, 5, 5, 4), None, False)


def pack(**more: Any) -> kernels.PackedWeights:
    args: dict[str, Any] = {"qw": QW, "scale": SB, "window": 8, **more}
    return kernels.pack_weights(args.pop("qw"), args.pop("scale"), args.pop("window"), **args)


def gemm(**more: Any) -> np.ndarray:
    q, scale = np.ones((2, 8), np.uint8), np.ones((2, 1), F32)
    args: dict[str, Any] = {"q": q, "scale": scale, "weights": pack(), **more}
    return kernels.qgemm(args.pop("q"), args.pop("scale"), args.pop("weights"), **args)


def conv(**more: Any) -> Conv:
    weights = kernels.pack_weights(np.ones((4, 3, 3, 8), np.int8), SB, 8)
    args: dict[str, Any] = {
        "src": QTensor((1, 5, 5, 8), 8, True, (1, 1, 1, 1)),
        "weights": weights,
        "dst": np.empty((1, 3, 3, 4), F32),
        "pool": Pool(1),
        **more,
    }
    return Conv(args.pop("src"), args.pop("weights"), **args)


def matmul(**more: Any) -> MatMul:
    args: dict[str, Any] = {
        "a": np.ones((2, 3, 8), F32),
        "b": np.ones((2, 8, 4), F32),
        "y": np.empty((2, 3, 4), F32),
        "window": 4,
        "pool": Pool(1),
        **more,
    }
    return MatMul(args.pop("a"), args.pop("b"), args.pop("y"), **args)


def pooling(src: Any, **more: Any) -> Pooling:
    return Pooling(src, "max", kernel=(1, 1), out_shape=(5, 5), pool=Pool(1), **more)


def unaligned(count: int) -> np.ndarray:
    """float32 at an odd address."""
    return np.zeros(4 * count + 1, np.uint8)[1:].view(F32)


def read_only(shape: tuple[int, ...]) -> np.ndarray:
    x = np.zeros(shape, F32)
    x.flags.writeable = False
    return x


def floats_of(tensor: QTensor) -> np.ndarray:
    """The tensor's own memory as an output of `conv`."""
    return tensor.memory[: 4 * 36].view(F32).reshape(1, 3, 3, 4)


KERNEL_ERRORS: dict[str, Callable[[], Any]] = {
    "matmul depths differ": lambda: matmul(b=np.ones((2, 7, 4), F32)),
    "matmul leading axes": lambda: matmul(b=np.ones((3, 8, 4), F32)),
    "matmul y shape": lambda: matmul(y=np.empty((2, 4, 3), F32)),
    "matmul y of fewer axes": lambda: matmul(y=np.empty((3, 4), F32)),
    "matmul y of columns apart": lambda: matmul(y=np.empty((2, 4, 3), F32).swapaxes(1, 2)),
    "matmul y is broadcast": lambda: matmul(
        y=np.lib.stride_tricks.as_strided(np.empty((3, 4), F32), (2, 3, 4), (0, 16, 4))
    ),
    "matmul y is read-only": lambda: matmul(y=read_only((2, 3, 4))),
    "matmul in place": lambda: kernels.MatMul(
        IMAGE[0], np.ones((8, 8), F32), IMAGE[0], window=4, pool=Pool(1)
    ),
    "matmul float64": lambda: matmul(a=np.ones((2, 3, 8))),
    "matmul vector": lambda: matmul(a=np.ones(8, F32)),
    "matmul empty": lambda: matmul(a=np.ones((2, 0, 8), F32), y=np.empty((2, 0, 4), F32)),
    "matmul unaligned": lambda: kernels.qmatmul(
        unaligned(8).reshape(1, 8), np.ones((8, 4), F32), 4
    ),
    "matmul window 0": lambda: matmul(window=0),
    "matmul window 513": lambda: matmul(window=513),
    "matmul scale": lambda: matmul(scale=np.inf),
    "matmul scale beyond float32": lambda: matmul(scale=1e300),
    "matmul mask without softmax": lambda: matmul(mask=np.zeros((3, 8), F32)),
    "matmul mask shape": lambda: matmul(softmax=True, mask=np.zeros((2, 8), F32)),
    "matmul mask of more axes": lambda: matmul(softmax=True, mask=np.zeros((4, 2, 3, 8), F32)),
    "matmul mask of one column": lambda: matmul(softmax=True, mask=np.zeros((3, 1), F32)),
    "matmul mask float64": lambda: matmul(softmax=True, mask=np.zeros((3, 8))),
    "matmul mask vector": lambda: matmul(softmax=True, mask=np.zeros(8, F32)),
    "matmul gemm": lambda: matmul(gemm=0),
    "qmatmul leading axes": lambda: kernels.qmatmul(
        np.ones((2, 3, 8), F32), np.ones((3, 8, 4), F32), 4
    ),
    "qmatmul threads": lambda: kernels.qmatmul(X, X.T, 4, threads=0),
    "quantize float64": lambda: kernels.quantize_windows(X.astype(np.float64), 4),
    "quantize big endian": lambda: kernels.quantize_windows(X.astype(">f4"), 4),
    "quantize strided": lambda: kernels.quantize_windows(X[:, ::2], 4),
    "quantize empty": lambda: kernels.quantize_windows(np.empty((0, 8), F32), 4),
    "quantize scalar": lambda: kernels.quantize_windows(np.array(1, F32), 4),
    "quantize window 0": lambda: kernels.quantize_windows(X, 0),
    "quantize window huge": lambda: kernels.quantize_windows(X, 2**31),
    "quantize threads 0": lambda: kernels.quantize_windows(X, 4, threads=0),
    "quantize threads 1000": lambda: kernels.quantize_windows(X, 4, threads=1000),
    "quantize out shape": lambda: kernels.quantize_windows(
        X, 4, out=(np.empty((2, 8), np.uint8), np.empty((2, 1), F32))
    ),
    "quantize unaligned": lambda: kernels.quantize_windows(
        np.zeros(65, np.uint8)[1:].view(F32).reshape(2, 8), 4
    ),
    "dequantize scale shape": lambda: kernels.dequantize_windows(
        np.ones((2, 8), np.uint8), np.ones((2, 3), F32), 4, True
    ),
    "pack -128": lambda: pack(qw=np.full((4, 8), -128, np.int8)),
    "pack -2033": lambda: pack(qw=np.full((4, 8), -2033, np.int16)),
    "pack int16 with weight windows": lambda: pack(
        qw=np.ones((4, 8), np.int16), scale=np.ones((4, 2), F32), weight_window=4
    ),
    "pack int16 for one scale": lambda: pack(qw=np.ones((4, 8), np.int16), window=None),
    "pack int16 depthwise, too many taps": lambda: pack(
        qw=np.ones((4, 33, 1, 1), np.int16), window=4, groups=4
    ),
    "pack skewed depthwise": lambda: pack(
        qw=np.ones((4, 3, 3, 1), np.int8), window=4, groups=4, signed=56
    ),
    "pack zero point 129": lambda: pack(signed=129),
    "pack uint8": lambda: pack(qw=QW.astype(np.uint8)),
    "pack 3 dimensions": lambda: pack(qw=QW[None]),
    "pack scale shape": lambda: pack(scale=np.ones(5, F32)),
    "pack scale NaN": lambda: pack(scale=np.full(4, np.nan, F32)),
    "pack scale negative": lambda: pack(scale=-SB),
    "pack groups": lambda: pack(groups=3),
    "pack groups of matrix": lambda: pack(groups=2),
    "pack chunk too long": lambda: pack(qw=np.ones((4, 600), np.int8), window=600),
    "pack weight window 0": lambda: pack(weight_window=0),
    "pack too deep": lambda: pack(qw=np.ones((1, 66312), np.int8), scale=SB[:1], window=None),
    "pack weight window alone": lambda: pack(window=None, weight_window=4),
    "pack strided": lambda: pack(qw=np.ones((4, 16), np.int8)[:, ::2]),
    "pack transposed": lambda: pack(qw=np.ones((8, 4), np.int8).T),
    "pack empty": lambda: pack(qw=np.ones((4, 0), np.int8)),
    "pack huge by strides": lambda: pack(qw=np.broadcast_to(QW[:1, :1], (2**30, 2**30))),
    "pack scale strided": lambda: pack(scale=np.ones(8, F32)[::2]),
    "pack scale unaligned": lambda: pack(scale=unaligned(4)),
    "pack scale float64": lambda: pack(scale=SB.astype(np.float64)),
    "gemm q strided": lambda: gemm(q=np.ones((2, 16), np.uint8)[:, ::2]),
    "gemm q int8": lambda: gemm(q=np.ones((2, 8), np.int8)),
    "gemm q empty": lambda: gemm(q=np.ones((0, 8), np.uint8)),
    "gemm scale strided": lambda: gemm(scale=np.ones((2, 2), F32)[:, ::2][:, :1]),
    "gemm bias unaligned": lambda: gemm(bias=unaligned(4)),
    "gemm out read-only": lambda: gemm(out=read_only((2, 4))),
    "gemm out strided": lambda: gemm(out=np.empty((2, 8), F32)[:, ::2]),
    "conv residual unaligned": lambda: conv(residual=unaligned(36).reshape(1, 3, 3, 4)),
    "conv residual float64": lambda: conv(residual=np.ones((1, 3, 3, 4))),
    "conv dst unaligned": lambda: conv(dst=unaligned(36).reshape(1, 3, 3, 4)),
    "conv dst on src": lambda: conv(dst=floats_of(SOURCE), src=SOURCE),
    "conv stride beyond int32": lambda: conv(strides=(2**31, 1)),
    "conv dilation beyond src": lambda: conv(dilations=(2**31 - 1, 1)),
    "conv pads beyond int32": lambda: conv(pads=(2**31, 0, 0, 0)),
    "tensor halo overflow": lambda: QTensor((1, 2, 3, 4), 4, True, (2**31 - 1,) * 4),
    "tensor size beyond int32": lambda: QTensor((1, 2**31, 1, 1), 4, True),
    "pooling halo overflow": lambda: pooling(
        np.ones((1, 5, 5, 4), F32), dst=np.ones((1, 5, 5, 4), F32), pads=(2**31,) * 4
    ),
    "pooling src strided channels": lambda: pooling(
        np.ones((1, 5, 5, 8), F32)[..., ::2], dst=np.ones((1, 5, 5, 4), F32)
    ),
    "pooling src unaligned": lambda: pooling(
        unaligned(100).reshape(1, 5, 5, 4), dst=np.ones((1, 5, 5, 4), F32)
    ),
    "gemm scale missing": lambda: gemm(scale=None),
    "gemm scale of one scale": lambda: gemm(weights=pack(window=None)),
    "gemm scale shape": lambda: gemm(scale=np.ones((2, 2), F32)),
    "gemm scale NaN": lambda: gemm(scale=np.full((2, 1), np.nan, F32)),
    "gemm scale negative": lambda: gemm(scale=np.full((2, 1), -1, F32)),
    "gemm channels": lambda: gemm(q=np.ones((2, 9), np.uint8)),
    "gemm bias": lambda: gemm(bias=np.ones(5, F32)),
    "gemm residual": lambda: gemm(residual=np.ones((2, 5), F32)),
    "gemm activation": lambda: gemm(activation="softplus"),
    "gemm out": lambda: gemm(out=np.empty((3, 4), F32)),
    "gemm of conv weights": lambda: gemm(weights=pack(qw=np.ones((4, 1, 1, 8), np.int8))),
    "tensor shape": lambda: QTensor((1, 2, 3), 4, True),
    "tensor size 0": lambda: QTensor((1, 0, 3, 4), 4, True),
    "tensor overflow": lambda: QTensor((2**30, 2**30, 2**30, 2**30), 4, True),
    "tensor halo negative": lambda: QTensor((1, 2, 3, 4), 4, True, (0, -1, 0, 0)),
    "tensor memory short": lambda: QTensor((1, 9, 9, 4), 4, True, memory=np.empty(64, np.uint8)),
    "tensor bound twice": lambda: QTensor.__init__(TENSOR, (1, 9, 9, 9), 4, True),
    "channels cut a window": lambda: QTensor((1, 2, 3, 12), 4, True).channels(2, 8),
    "channels end in a window": lambda: QTensor((1, 2, 3, 12), 4, True).channels(0, 7),
    "channels empty": lambda: TENSOR.channels(0, 0),
    "channels beyond": lambda: TENSOR.channels(0, 5),
    "channels negative": lambda: TENSOR.channels(-4, 4),
    "channels unbound": lambda: QTensor.__new__(QTensor).channels(0, 1),
    "border of windows": lambda: QTensor((1, 2, 2, 3), 3, False, border=(1, 2, 3)),
    "border of 5 channels": lambda: QTensor((1, 2, 2, 5), None, False, border=(1,) * 5),
    "border length": lambda: QTensor((1, 2, 2, 3), None, False, border=(1, 2)),
    "border value": lambda: QTensor((1, 2, 2, 3), None, False, border=(1, 2, 256)),
    "channels of one scale": lambda: RAW.channels(0, 3),
    "pixels float": lambda: Pixels(np.ones(RAW.shape, F32), RAW, Pool(1)),
    "pixels shape": lambda: Pixels(np.ones((1, 5, 5, 4), np.uint8), RAW, Pool(1)),
    "pixels strided": lambda: Pixels(np.ones((1, 5, 5, 6), np.uint8)[..., ::2], RAW, Pool(1)),
    "pixels into windows": lambda: Pixels(np.ones(TENSOR.shape, np.uint8), TENSOR, Pool(1)),
    "pixels in place": lambda: Pixels(FLAT.memory[:100].reshape(FLAT.shape), FLAT, Pool(1)),
    "pixels unbound": lambda: Pixels.__new__(Pixels)(),
    "quantize into one scale": lambda: Quantize(np.ones(RAW.shape, F32), RAW, Pool(1)),
    "conv into one scale": lambda: conv(dst_q=QTensor((1, 3, 3, 4), None, True)),
    "conv from one scale": lambda: conv(src=FLAT),
    "pool from one scale": lambda: pooling(FLAT, dst=np.ones((1, 5, 5, 4), F32)),
    "pool into one scale": lambda: pooling(np.ones((1, 5, 5, 4), F32), dst_q=FLAT),
    "quantize op shape": lambda: Quantize(IMAGE, QTensor((1, 5, 5, 9), 4, True), Pool(1)),
    "quantize op unbound": lambda: Quantize.__new__(Quantize)(),
    "conv pads over halo": lambda: conv(pads=(2, 0, 0, 0)),
    "conv kernel over source": lambda: conv(dilations=(3, 3)),
    "conv stride 0": lambda: conv(strides=(0, 1)),
    "conv dst shape": lambda: conv(dst=np.empty((1, 5, 5, 4), F32)),
    "conv dst read-only": lambda: conv(dst=np.broadcast_to(np.ones(4, F32), (1, 3, 3, 4))),
    "conv dst channels strided": lambda: conv(dst=np.empty((1, 3, 3, 8), F32)[..., ::2]),
    "conv no dst": lambda: conv(dst=None),
    "conv window": lambda: conv(src=QTensor((1, 5, 5, 8), 4, True)),
    "conv signed": lambda: conv(src=QTensor((1, 5, 5, 8), 8, False)),
    "conv dst_q shape": lambda: conv(dst_q=QTensor((1, 3, 3, 5), 4, True)),
    "conv gemm 0": lambda: conv(gemm=0),
    "conv unbound": lambda: Conv.__new__(Conv)(),
    "weights unbound": lambda: kernels.PackedWeights.__new__(kernels.PackedWeights).nbytes,
    "layout shape": lambda: ToNHWC(IMAGE, np.empty((1, 5, 8, 5), F32)[:, :4], Pool(1)),
    "layout in place": lambda: ToNHWC(CUBE, CUBE, Pool(1)),
    "isa unknown": lambda: kernels.use_isa("sse9"),
    "check_gemm 0": lambda: kernels.check_gemm(0),
    "run_dots 0": lambda: kernels.run_dots(0),
    "run_reads 0": lambda: kernels.run_reads(np.zeros(64, np.uint8), 0),
    "run_reads unaligned": lambda: kernels.run_reads(np.zeros(65, np.uint8)[1:], 1),
    "run_copies shape": lambda: kernels.run_copies(
        np.zeros(64, np.uint8), np.zeros(60, np.uint8), 1
    ),
    "pool of 0": lambda: Pool(0),
}

TYPE_ERRORS: dict[str, Callable[[], Any]] = {
    "quantize list": lambda: kernels.quantize_windows([1.0], 4),  # type: ignore[arg-type]
    "quantize window float": lambda: kernels.quantize_windows(X, 4.0),  # type: ignore[arg-type]
    "gemm weights": lambda: gemm(weights=QW),
    "gemm weights None": lambda: gemm(weights=None),
    "conv pool": lambda: conv(pool=2),
    "conv alpha": lambda: conv(alpha="a"),
    "weights constructor": lambda: kernels.PackedWeights(),
    "isa number": lambda: kernels.use_isa(5),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", KERNEL_ERRORS)
def test_bad_value_is_kernel_error(name: str) -> None:
    with pytest.raises(KernelError):
        KERNEL_ERRORS[name]()


@pytest.mark.parametrize("name", TYPE_ERRORS)
def test_bad_type_is_type_error(name: str) -> None:
    with pytest.raises(TypeError):
        TYPE_ERRORS[name]()


def test_good_arguments_pass() -> None:
    """The arguments that the errors above vary are right themselves."""
    assert gemm().shape == (2, 4)
    assert conv()() is None


def test_error_text_says_what_was_given_and_expected() -> None:
    with pytest.raises(KernelError, match=r"bias has shape \(5,\); expected \(4,\)"):
        gemm(bias=np.ones(5, F32))


@pytest.mark.parametrize(("name", "works"), [("scalar", True), ("sse9", False)])
def test_environment_variable_chooses_isa(name: str, works: bool) -> None:
    code = "import accel.kernels as k; print(k.isa())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LW_ISA": name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is works
    assert name in (done.stdout if works else done.stderr)
    assert works or "supported: scalar" in done.stderr
