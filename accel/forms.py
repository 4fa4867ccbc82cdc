"""The forms in which a plan holds a value: known by shape first, bound to memory later."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from accel import kernels
from accel.arena import Arena, Buffer

Array = np.ndarray[Any, Any]


class Floats:
    """An array in the model's own layout or channels last; despite the name of any dtype.

    Parameters
    ----------
    buffer : None for a constant, which has its array already.
    strides : in bytes; None: C-contiguous.
    whole : the array of which this is a range of channels.
    """

    def __init__(
        self,
        buffer: Buffer | None,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        offset: int = 0,
        strides: tuple[int, ...] | None = None,
        whole: Floats | None = None,
    ) -> None:
        self.buffer, self.shape, self.dtype = buffer, shape, dtype
        self._offset, self._strides, self._whole = offset, strides, whole

    @classmethod
    def reserve(
        cls, arena: Arena, shape: tuple[int, ...], dtype: np.dtype[Any] | None = None
    ) -> Floats:
        """A new array, float32 by default."""
        dtype = np.dtype(np.float32) if dtype is None else dtype
        return cls(arena.reserve(int(np.prod(shape)) * dtype.itemsize), shape, dtype)

    @classmethod
    def constant(cls, array: Array) -> Floats:
        """An array that no step writes."""
        form = cls(None, array.shape, array.dtype)
        form.array = array
        return form

    @cached_property
    def array(self) -> Array:
        """The bytes; to be asked for once the arena is placed."""
        assert self.buffer is not None
        return np.ndarray(self.shape, self.dtype, self.buffer.memory, self._offset, self._strides)

    @property
    def held(self) -> Array:
        """What the kernels take: the array."""
        return self.array

    def images(self, count: int) -> list[Array]:
        """The bytes of the whole array image by image, (count, nbytes) each."""
        whole = self._whole or self
        return [whole.array.view(np.uint8).reshape(count, -1)]

    @property
    def nbytes(self) -> int:
        """Bytes of its own elements."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether the array is C-contiguous."""
        return self._strides is None

    def is_like(self, other: Form) -> bool:
        """Whether both are whole arrays whose elements lie alike."""
        if not isinstance(other, Floats) or not (self.contiguous and other.contiguous):
            return False
        return (self.shape, self.dtype) == (other.shape, other.dtype)

    def is_at(self, other: Floats) -> bool:
        """Whether both begin at the same byte."""
        return self.buffer is other.buffer and self._offset == other._offset

    def reshape(self, shape: Sequence[int]) -> Floats:
        """The same bytes under another shape; only of a contiguous array."""
        assert self.contiguous
        if self.buffer is None:
            return Floats.constant(self.array.reshape(shape))
        return Floats(self.buffer, tuple(shape), self.dtype, self._offset)

    def channels(self, start: int, end: int) -> Floats:
        """A range of the last axis."""
        strides = self._strides
        if strides is None:
            ends = np.cumprod((self.dtype.itemsize, *self.shape[:0:-1]))
            strides = tuple(int(s) for s in ends[::-1])
        offset = self._offset + start * self.dtype.itemsize
        shape, whole = (*self.shape[:-1], end - start), self._whole or self
        return Floats(self.buffer, shape, self.dtype, offset, strides, whole)


class Windows:
    """Quantized activations, or a range of the channels of some.

    Parameters
    ----------
    whole : the tensor of which this is a range of channels.
    """

    def __init__(
        self,
        buffer: Buffer,
        shape: tuple[int, ...],
        window: int | None,
        zero_point: int,
        halo: tuple[int, int, int, int],
        border: tuple[int, ...] | None = None,
        rests: bool = False,
        whole: tuple[Windows, int, int] | None = None,
    ) -> None:
        self.buffer, self.shape, self.window, self.zero_point = buffer, shape, window, zero_point
        self._halo, self._border, self._rests, self._whole = halo, border, rests, whole

    @classmethod
    def reserve(
        cls,
        arena: Arena,
        shape: tuple[int, ...],
        window: int | None,
        zero_point: int,
        halo: tuple[int, int, int, int],
        border: tuple[int, ...] | None = None,
        rests: bool = False,
    ) -> Windows:
        """A new tensor."""
        nbytes = kernels.QTensor.nbytes_for(shape, window, halo)
        return cls(arena.reserve(nbytes), shape, window, zero_point, halo, border, rests)

    @property
    def held(self) -> kernels.QTensor:
        """What the kernels take: the tensor."""
        return self.tensor

    def images(self, count: int) -> list[Array]:
        """The bytes of the whole tensor image by image, (count, nbytes) each, border included."""
        whole = self if self._whole is None else self._whole[0]
        return whole.tensor.images(count)

    @property
    def nbytes(self) -> int:
        """Bytes of its own channels and their scales, without the border."""
        pixels = int(np.prod(self.shape[:-1]))
        windows = 0 if self.window is None else -(-self.shape[-1] // self.window)
        return pixels * (self.shape[-1] + 4 * windows)

    @cached_property
    def tensor(self) -> kernels.QTensor:
        """The bytes; to be asked for once the arena is placed."""
        if self._whole is not None:
            whole, start, end = self._whole
            return whole.tensor.channels(start, end)
        return kernels.QTensor(
            self.shape,
            self.window,
            self.zero_point,
            self._halo,
            memory=self.buffer.memory,
            border=self._border,
            rests=self._rests,
        )

    def is_like(self, other: Form) -> bool:
        """Whether both are whole tensors whose bytes and scales lie alike."""
        if not isinstance(other, Windows) or self._whole or other._whole:
            return False
        ours, others = ((w.shape, w.window, w._halo) for w in (self, other))
        return ours == others

    def channels(self, start: int, end: int) -> Windows:
        """A range of the channels, at the edges of windows."""
        shape = (*self.shape[:-1], end - start)
        whole = (self, start, end)
        halo, window, zero_point = self._halo, self.window, self.zero_point
        return Windows(self.buffer, shape, window, zero_point, halo, whole=whole)


Form = Floats | Windows
