from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

class KernelRow(TypedDict):
    name: str
    op: str
    mode: str
    mr: int
    nr: int
    kr: int
    isa: str

def isa() -> str: ...
def isas() -> tuple[str, ...]: ...
def use_isa(name: str) -> AbstractContextManager[None]: ...
def table() -> list[KernelRow]: ...
def run_dots(steps: int) -> int: ...
def run_reads(x: NDArray[np.uint8], times: int) -> int: ...
def run_copies(x: NDArray[np.uint8], y: NDArray[np.uint8], times: int) -> int: ...
def check_gemm(address: int) -> bool: ...
def quantize_windows(
    x: NDArray[np.float32],
    window: int,
    signed: bool | int = True,
    *,
    out: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None,
    threads: int = 1,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]: ...
def dequantize_windows(
    q: NDArray[np.uint8], scale: NDArray[np.float32], window: int, signed: bool | int
) -> NDArray[np.float32]: ...
def pack_weights(
    qw: NDArray[np.int8] | NDArray[np.int16],
    scale: NDArray[np.float32],
    window: int | None,
    *,
    weight_window: int | None = None,
    signed: bool | int = True,
    groups: int = 1,
    winograd: bool = False,
) -> PackedWeights: ...
def map_weights(
    blob: NDArray[np.uint8],
    shape: Sequence[int],
    window: int | None,
    *,
    weight_window: int | None = None,
    signed: bool | int = True,
    groups: int = 1,
    fine: bool = False,
    winograd: bool = False,
) -> PackedWeights: ...
def qgemm(
    q: NDArray[np.uint8],
    scale: NDArray[np.float32] | None,
    weights: PackedWeights,
    bias: NDArray[np.float32] | None = None,
    *,
    residual: NDArray[np.float32] | None = None,
    activation: str = "none",
    alpha: float = 0.0,
    lo: float = ...,
    hi: float = ...,
    threads: int = 1,
    out: NDArray[np.float32] | None = None,
    gemm: int | None = None,
) -> NDArray[np.float32]: ...
def qconv2d(
    q: NDArray[np.uint8],
    scale: NDArray[np.float32] | None,
    weights: PackedWeights,
    bias: NDArray[np.float32] | None = None,
    *,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    residual: NDArray[np.float32] | None = None,
    activation: str = "none",
    alpha: float = 0.0,
    lo: float = ...,
    hi: float = ...,
    threads: int = 1,
    out: NDArray[np.float32] | None = None,
    gemm: int | None = None,
) -> NDArray[np.float32]: ...
def qmatmul(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    window: int,
    *,
    signed: bool = True,
    scale: float = 1.0,
    softmax: bool = False,
    mask: NDArray[np.float32] | None = None,
    threads: int = 1,
    gemm: int | None = None,
) -> NDArray[np.float32]: ...

class PackedWeights:
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def window(self) -> int | None: ...
    @property
    def weight_window(self) -> int | None: ...
    @property
    def mode(self) -> str: ...
    @property
    def fine(self) -> bool: ...
    @property
    def signed(self) -> bool | int: ...
    @property
    def groups(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def depthwise(self) -> bool: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def blob(self) -> NDArray[np.uint8]: ...

class Pool:
    def __init__(self, threads: int = 1) -> None: ...
    @property
    def threads(self) -> int: ...

class Operator:
    def __call__(self) -> None: ...

class Chain(Operator):
    def __init__(self, operators: Iterable[object]) -> None: ...

class Lanes:
    def __init__(
        self,
        operators: Sequence[Operator],
        inputs: Sequence[Sequence[NDArray[np.uint8]]],
        outputs: Sequence[Sequence[NDArray[np.uint8]]],
        results: Sequence[NDArray[np.uint8]],
        pool: Pool,
    ) -> None: ...
    def __call__(self, images: Sequence[NDArray[Any]]) -> None: ...

class Pooling(Operator):
    def __init__(
        self,
        src: NDArray[np.float32] | QTensor,
        op: str,
        *,
        kernel: Sequence[int],
        out_shape: Sequence[int],
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        count_pads: bool = False,
        dst: NDArray[np.float32] | None = None,
        dst_q: QTensor | None = None,
        pool: Pool,
    ) -> None: ...

class Linear(Operator):
    def __init__(
        self,
        src: NDArray[np.float32],
        dst: NDArray[np.float32],
        rows: Sequence[float],
        columns: Sequence[float],
        pool: Pool,
    ) -> None: ...

class Columns(Operator):
    def __init__(
        self,
        loads: Sequence[Sequence[NDArray[np.float32]]],
        constants: NDArray[np.float32],
        steps: Sequence[tuple[str, int, int]],
        result: Sequence[int],
        dst: NDArray[np.float32],
        pool: Pool,
    ) -> None: ...

class Nearest(Operator):
    def __init__(
        self,
        src: NDArray[np.float32] | QTensor,
        dst: NDArray[np.float32] | QTensor,
        rows: Sequence[int],
        columns: Sequence[int],
        pool: Pool,
    ) -> None: ...

class QTensor:
    def __init__(
        self,
        shape: Sequence[int],
        window: int | None,
        signed: bool | int,
        halo: Sequence[int] = (0, 0, 0, 0),
        memory: NDArray[np.uint8] | None = None,
        *,
        border: Sequence[int] | None = None,
        rests: bool = False,
    ) -> None: ...
    @staticmethod
    def nbytes_for(
        shape: Sequence[int], window: int | None, halo: Sequence[int] = (0, 0, 0, 0)
    ) -> int: ...
    def images(self, count: int) -> list[NDArray[np.uint8]]: ...
    def channels(self, c0: int, c1: int) -> QTensor: ...
    @property
    def q(self) -> NDArray[np.uint8]: ...
    @property
    def scale(self) -> NDArray[np.float32]: ...  # None if window is None
    @property
    def image_scale(self) -> NDArray[np.float32]: ...  # None if window is not None
    @property
    def memory(self) -> NDArray[np.uint8]: ...
    @property
    def shape(self) -> tuple[int, int, int, int]: ...
    @property
    def window(self) -> int | None: ...
    @property
    def signed(self) -> bool | int: ...
    @property
    def halo(self) -> tuple[int, int, int, int]: ...
    @property
    def nbytes(self) -> int: ...

class Quantize(Operator):
    def __init__(self, src: NDArray[np.float32], dst: QTensor, pool: Pool) -> None: ...

class QuantizePlanes(Operator):
    def __init__(self, src: NDArray[np.float32], dst: QTensor, pool: Pool) -> None: ...

class Pixels(Operator):
    def __init__(self, src: NDArray[np.uint8], dst: QTensor, pool: Pool) -> None: ...

class Dense:
    def __init__(
        self,
        src: QTensor,
        weights: PackedWeights,
        *,
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        bias: NDArray[np.float32] | None = None,
        activation: str = "none",
        alpha: float = 0.0,
        lo: float = ...,
        hi: float = ...,
        gemm: int | None = None,
    ) -> None: ...
    @property
    def shape(self) -> tuple[int, int, int, int]: ...

class MaxPool:
    def __init__(
        self,
        kernel: Sequence[int],
        out_shape: Sequence[int],
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
    ) -> None: ...

class Conv(Operator):
    def __init__(
        self,
        src: QTensor | Dense,
        weights: PackedWeights,
        *,
        pool: Pool,
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        bias: NDArray[np.float32] | None = None,
        residual: NDArray[np.float32] | QTensor | Dense | None = None,
        activation: str = "none",
        alpha: float = 0.0,
        lo: float = ...,
        hi: float = ...,
        dst: NDArray[np.float32] | None = None,
        dst_q: QTensor | None = None,
        max_pool: MaxPool | None = None,
        gemm: int | None = None,
    ) -> None: ...
    @property
    def shape(self) -> tuple[int, int, int, int]: ...

class MatMul(Operator):
    def __init__(
        self,
        a: NDArray[np.float32],
        b: NDArray[np.float32],
        y: NDArray[np.float32],
        *,
        window: int,
        signed: bool = True,
        scale: float = 1.0,
        softmax: bool = False,
        mask: NDArray[np.float32] | None = None,
        pool: Pool,
        gemm: int | None = None,
    ) -> None: ...

class ToNHWC(Operator):
    def __init__(self, src: NDArray[np.float32], dst: NDArray[np.float32], pool: Pool) -> None: ...

class ToNCHW(Operator):
    def __init__(self, src: NDArray[np.float32], dst: NDArray[np.float32], pool: Pool) -> None: ...
