"""A memory that holds real bytes at addresses: the card's DRAM, or the host's pinned pages.

Each allocation is backed by its own bytes, so a memory may be as large as a real card's while
only what is allocated costs anything. An access must lie inside one live allocation.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import CardError, InputError

POISON = 0xA5
"""Value written over freed bytes, so that a use after free cannot look like a result."""


class Buffer(NamedTuple):
    """One allocation: `n_bytes` bytes from `address` to `end`, in the memory called `memory`."""

    address: int
    n_bytes: int
    memory: str
    end: int


class Memory:
    """An address space of `capacity` bytes starting at `base`, with a first-fit allocator.

    Raises
    ------
    InputError
        If the capacity is not positive.
    """

    def __init__(self, name: str, capacity: int, base: int = 0x1000) -> None:
        if capacity < 1:
            raise InputError(f"memory {name!r}: capacity is {capacity} bytes; expected at least 1")
        self.name = name
        self.capacity = capacity
        self.base = base
        self.used = 0
        self._addresses: list[int] = []
        self._buffers: dict[int, Buffer] = {}
        self._bytes: dict[int, NDArray[np.uint8] | None] = {}
        self._freed: dict[int, list[int]] = {}

    def allocate(self, n_bytes: int, alignment: int = 64, blank: bool = False) -> Buffer:
        """Return a zeroed buffer of `n_bytes` at a free aligned address.

        A `blank` buffer takes its place and holds no bytes: for runs that ask for time alone.

        Raises InputError if `n_bytes` < 1 or `alignment` is not a power of two, and CardError
        if no gap is large enough.
        """
        if n_bytes < 1:
            raise InputError(f"{self.name}: cannot allocate {n_bytes} bytes; expected at least 1")
        if alignment < 1 or alignment & (alignment - 1):
            raise InputError(f"{self.name}: alignment {alignment} is not a power of two")
        address = self._freed_gap(n_bytes, alignment)
        if address is None:
            address = self._find_gap(n_bytes, alignment)
        buffer = Buffer(address, n_bytes, self.name, address + n_bytes)
        insort(self._addresses, address)
        self._buffers[address] = buffer
        self._bytes[address] = None if blank else np.zeros(n_bytes, np.uint8)
        self.used += n_bytes
        return buffer

    def free(self, buffer: Buffer) -> None:
        """Give `buffer` back; its bytes are poisoned first. Raises InputError if it is not live."""
        if self._buffers.get(buffer.address) != buffer:
            raise InputError(f"{self.name}: buffer at {buffer.address:#x} is not allocated here")
        data = self._bytes.pop(buffer.address)
        if data is not None:
            data[:] = POISON
        del self._buffers[buffer.address]
        del self._addresses[bisect_left(self._addresses, buffer.address)]
        self._freed.setdefault(buffer.n_bytes, []).append(buffer.address)
        self.used -= buffer.n_bytes

    def contains(self, address: int, n_bytes: int) -> bool:
        """Tell whether [address, address + n_bytes) lies inside one live buffer."""
        owner = self._buffers.get(address) or self._owner(address)
        return owner is not None and 0 <= n_bytes <= owner.end - address

    def blank(self, address: int) -> bool:
        """Tell whether the live buffer at `address` holds no bytes."""
        owner = self._owner(address)
        return owner is not None and self._bytes[owner.address] is None

    def view(self, address: int, n_bytes: int) -> NDArray[np.uint8]:
        """Return the live bytes at `address`, (n_bytes,) uint8, shared and not copied.

        Raises InputError when the range is not inside one buffer, or the buffer is blank.
        """
        owner = self._owner(address)
        if owner is None or n_bytes < 0 or address + n_bytes > owner.end:
            raise InputError(
                f"{self.name}: {n_bytes} bytes at {address:#x} are not inside one buffer; "
                f"allocate them first"
            )
        data = self._bytes[owner.address]
        if data is None:
            raise InputError(f"{self.name}: the buffer at {owner.address:#x} is blank")
        start = address - owner.address
        return data[start : start + n_bytes]

    def write(self, address: int, data: NDArray[np.generic] | bytes) -> None:
        """Copy the bytes of `data` to `address`."""
        raw = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else _raw(data)
        self.view(address, raw.size)[:] = raw

    def _owner(self, address: int) -> Buffer | None:
        """Return the buffer that holds the byte at `address`; most ask for the first of one."""
        if (first := self._buffers.get(address)) is not None:
            return first
        index = bisect_right(self._addresses, address) - 1
        if index < 0:
            return None
        buffer = self._buffers[self._addresses[index]]
        return buffer if address < buffer.end else None

    def _freed_gap(self, n_bytes: int, alignment: int) -> int | None:
        """Return an address that a buffer of this size had before, if it is still free."""
        freed = self._freed.get(n_bytes)
        while freed:
            address = freed.pop()
            after = bisect_right(self._addresses, address)
            free = after == len(self._addresses) or address + n_bytes <= self._addresses[after]
            if after and self._buffers[self._addresses[after - 1]].end > address:
                free = False
            if free and address % alignment == 0:
                return address
        return None

    def _find_gap(self, n_bytes: int, alignment: int) -> int:
        address = _align(self.base, alignment)
        for start in self._addresses:
            if address + n_bytes <= start:
                break
            address = max(address, _align(self._buffers[start].end, alignment))
        if address + n_bytes > self.base + self.capacity:
            raise CardError(
                f"{self.name} is full: {n_bytes} bytes wanted, {self.capacity - self.used} of "
                f"{self.capacity} free; free buffers or use a smaller batch"
            )
        return address


def _align(address: int, alignment: int) -> int:
    return (address + alignment - 1) & ~(alignment - 1)


def _raw(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
