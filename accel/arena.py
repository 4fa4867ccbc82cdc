"""The memory of a plan: one block, in which buffers that are never in use at the same time may
lie at the same place."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from accel.errors import ModelError

ALIGN = 64
HUGE_PAGE = 1 << 21

Array = np.ndarray[Any, Any]


class Buffer:
    """Some bytes of a plan.

    Attributes
    ----------
    first, last : the steps between which the bytes must stay as they are.
    over : a buffer of the same size whose place it may take at the step that writes this one and
        reads the other for the last time: each byte is read before it is written.
    offset : into the arena, once it is placed.
    memory : uint8 (nbytes,), once the arena is placed.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = -(-max(nbytes, 1) // ALIGN) * ALIGN
        self.first: int | None = None
        self.last = -1
        self.over: Buffer | None = None
        self.offset = 0
        self.memory: Array | None = None

    def use(self, step: int) -> None:
        """A step reads or writes the bytes."""
        self.first = step if self.first is None else min(self.first, step)
        self.last = max(self.last, step)


class Lives:
    """Buffers by the steps in which they are in use: a segment tree over the steps.

    Parameters
    ----------
    first, last : the steps that there are.
    """

    def __init__(self, first: int, last: int) -> None:
        self._first, self._count = first, last - first + 1
        self._alive: list[list[Buffer]] = [[] for _ in range(2 * self._count)]
        self._begun: list[list[Buffer]] = [[] for _ in range(self._count)]

    def add(self, buffer: Buffer) -> None:
        """Take in a buffer that is used."""
        assert buffer.first is not None
        low, high = buffer.first - self._first, buffer.last - self._first
        self._begun[low].append(buffer)
        low, high = low + self._count, high + self._count + 1
        while low < high:  # the few nodes that together are these steps
            if low % 2:
                self._alive[low].append(buffer)
                low += 1
            if high % 2:
                high -= 1
                self._alive[high].append(buffer)
            low, high = low // 2, high // 2

    def meeting(self, buffer: Buffer) -> Iterator[Buffer]:
        """Those that are in use at some step of a buffer: at its first, or from a later one on."""
        assert buffer.first is not None
        start = buffer.first - self._first
        node = start + self._count
        while node:
            yield from self._alive[node]
            node //= 2
        for begun in self._begun[start + 1 : buffer.last - self._first + 1]:
            yield from begun


class Arena:
    """Buffers are reserved, steps say when they use them, then all get their place at once."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.nbytes = 0

    def reserve(self, nbytes: int) -> Buffer:
        """A new buffer, without memory yet."""
        buffer = Buffer(nbytes)
        self.buffers.append(buffer)
        return buffer

    def place(self) -> None:
        """Give every buffer in use its bytes, zeroed: largest first, each into the tightest gap
        that those it meets leave."""
        used = [b for b in self.buffers if b.first is not None]
        firsts = [b.first for b in used if b.first is not None]
        lives = Lives(min(firsts, default=0), max((b.last for b in used), default=0))
        places = _places(used)
        for place in sorted(places, key=lambda p: -p.nbytes):
            place.offset = _tightest_gap(place, lives.meeting(place))
            lives.add(place)
            for buffer in places[place]:
                buffer.offset = place.offset
        self.nbytes = max((b.offset + b.nbytes for b in used), default=0)
        block = _zeroed(self.nbytes)
        for buffer in used:
            buffer.memory = block[buffer.offset : buffer.offset + buffer.nbytes]


def _places(used: Iterable[Buffer]) -> dict[Buffer, list[Buffer]]:
    """Buffers by the place that they take in turn, which lives as long as all of them."""
    places: dict[Buffer, list[Buffer]] = {}
    found: dict[Buffer | None, Buffer] = {}
    for buffer in sorted(used, key=lambda b: (b.first, b.last)):
        assert buffer.first is not None
        place = found.get(buffer.over)
        if place is None or place.last != buffer.first or place.nbytes != buffer.nbytes:
            place = Buffer(buffer.nbytes)
            places[place] = []
        place.use(buffer.first)
        place.use(buffer.last)
        places[place].append(buffer)
        found[buffer] = place
    return places


def _tightest_gap(buffer: Buffer, met: Iterable[Buffer]) -> int:
    """The offset of the smallest gap that holds the buffer, else the end of all it meets."""
    best, tightest, end = -1, 0, 0
    for other in sorted(met, key=lambda b: b.offset):
        gap = other.offset - end
        if gap >= buffer.nbytes and (best < 0 or gap < tightest):
            best, tightest = end, gap
        end = max(end, other.offset + other.nbytes)
    return best if best >= 0 else end


def _zeroed(nbytes: int) -> Array:
    """Fresh pages, huge ones where the system has them: private, so that a fork copies them."""
    try:
        block = mmap.mmap(-1, max(nbytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as err:
        raise ModelError(
            f"the values of the model need {nbytes} bytes, which this machine does not give "
            f"({err}); take a smaller batch or input"
        ) from None
    if nbytes >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(block, np.uint8)
