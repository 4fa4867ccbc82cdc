"""What a compiled plan does, in order: calls of our kernels and groups left to ONNX Runtime. Says
what runs, not where its data lies (that is `plan`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from accel.epilogue import Epilogue

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class OneCall:
    """A call of our kernels on one value.

    Attributes
    ----------
    name, op : of the node, with what is fused behind it (``Conv+Add+Relu``).
    x, y : names of the value read and the value made.
    """

    name: str
    op: str
    x: str
    y: str

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.x,)


@dataclass(frozen=True)
class ProductCall(OneCall):
    """One convolution or matrix product on our kernels, with its fused epilogue.

    Attributes
    ----------
    rows : `x` is a matrix (..., K); else an image (N, C, H, W) or (N, C, W).
    shape : of the weights, OHWI (OC, KH, KW, IC / groups) or (N, K).
    qw : int8 weights, or int16 if `fine`. None, and scale too, where they are packed already.
    scale : float32, one per output channel, or one per output channel and weight window.
    window, weight_window : activation and weight windows; window None: one scale for an image.
    border : where the input is raw pixels, uint8 (N, H, W, C): what stands for zero in each
        channel; the window is None then.
    rests : behind the channels of `x` follows what rounding takes off them; `shape` counts both.
    zero_point : of the activations: 0 where none is negative, else 128 or, where those are small,
        less.
    pads : top, left, bottom, right.
    macs : multiplications per batch.
    winograd : whether the weights are transformed when they are packed (`accel.winograd`).
    """

    rows: bool
    shape: tuple[int, ...]
    qw: Array | None
    scale: Array | None
    window: int | None
    weight_window: int | None
    fine: bool
    zero_point: int
    groups: int
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    bias: Array | None
    epilogue: Epilogue
    macs: int
    border: tuple[int, ...] | None = None
    rests: bool = False
    winograd: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        residual = self.epilogue.residual
        return (self.x,) if residual is None else (self.x, residual)


@dataclass(frozen=True)
class MatMulCall(OneCall):
    """A product of two activations on our kernels: y = scale * (x @ other).

    Or of the softmax of one: y = scale * (softmax(x + mask) @ other).

    Attributes
    ----------
    other : name of the second factor.
    x_perm, other_perm, y_perm : axes of the values in the order (..., M, K), (..., K, N) and
        (..., M, N), whose leading ones broadcast.
    window : along K, of both factors.
    signed : whether `x` needs a sign; `other` has one.
    mask : name of the mask of a softmax, which broadcasts to (..., M, K); None: none.
    macs : multiplications per batch.
    """

    other: str
    x_perm: tuple[int, ...]
    other_perm: tuple[int, ...]
    y_perm: tuple[int, ...]
    window: int
    signed: bool
    scale: float
    softmax: bool
    mask: str | None
    macs: int

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.x, self.other) if self.mask is None else (self.x, self.other, self.mask)


@dataclass(frozen=True)
class PoolCall(OneCall):
    """A maximum or average pooling of an image (N, C, H, W) on our kernels."""

    average: bool
    count_pads: bool
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]


@dataclass(frozen=True)
class SampleCall(OneCall):
    """Every so many pixels of an image (N, C, H, W), between channels of zeros.

    Attributes
    ----------
    start, strides : of the pixels taken, in rows and columns.
    before : channels of zeros ahead of those of `x`; as many follow as the shape of `y` asks for.
    """

    start: tuple[int, int]
    strides: tuple[int, int]
    before: int


@dataclass(frozen=True)
class NearestCall(OneCall):
    """A larger image (N, C, H, W) whose pixels are copies of nearest ones.

    Attributes
    ----------
    rows, columns : of `x`, for each row and each column of `y`.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class LinearCall(OneCall):
    """An image (N, C, H, W) of another size whose pixels lie between those of `x`.

    Attributes
    ----------
    rows, columns : places in `x`, for each row and each column of `y`.
    """

    rows: tuple[float, ...]
    columns: tuple[float, ...]


@dataclass(frozen=True)
class ColumnsCall:
    """A narrow matrix (M, N) computed row by row from the columns of others (`kernels.Columns`).

    Attributes
    ----------
    loads : names of matrices, those of each load below each other.
    matrices : of rows alike, below each other in `y`; constants are those of one.
    steps : operator and two columns; columns are counted from those of the loads on, then the
        constants, then the steps.
    result : the columns of `y`.
    """

    name: str
    op: str
    loads: tuple[tuple[str, ...], ...]
    constants: Array
    steps: tuple[tuple[str, int, int], ...]
    result: tuple[int, ...]
    matrices: int
    y: str

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for parts in self.loads for name in parts))


@dataclass(frozen=True)
class ViewCall(OneCall):
    """The same bytes under another shape: Flatten, Reshape, Squeeze and the like.

    Attributes
    ----------
    channels_last : the bytes are those of the image `x` with channels last.
    """

    channels_last: bool = False


@dataclass(frozen=True)
class JoinCall:
    """Concatenation of images by channel: the parts are written where they belong."""

    name: str
    op: str
    parts: tuple[str, ...]
    y: str

    @property
    def reads(self) -> tuple[str, ...]:
        return self.parts


@dataclass(frozen=True)
class HostGroup:
    """Nodes that ONNX Runtime runs as one subgraph.

    Attributes
    ----------
    data : the subgraph as a serialized ONNX model.
    nodes : (name, operator, multiplications) of each node.
    """

    data: bytes
    nodes: tuple[tuple[str, str, int], ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its first node."""
        return self.nodes[0][0]


OwnCall = (
    ProductCall
    | MatMulCall
    | PoolCall
    | SampleCall
    | NearestCall
    | LinearCall
    | ColumnsCall
    | JoinCall
    | ViewCall
)
Call = OwnCall | HostGroup


@dataclass(frozen=True)
class Schedule:
    """Calls in an order that respects their data.

    Attributes
    ----------
    constants : outputs that are weights of the model.
    shapes : of every value; None where it cannot be known before the run.
    dtypes : of every value.
    """

    calls: tuple[Call, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Array]
    shapes: dict[str, tuple[int, ...] | None]
    dtypes: dict[str, np.dtype[Any]]
