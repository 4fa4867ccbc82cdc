"""Rings of real bytes between the driver and the card, and the indices that walk them.

A ring has a power of two of slots. Its indices are 16-bit and free-running: they count entries,
not slots, and are masked on use, so `pidx - cidx` is always the number of entries in the ring.
Software produces descriptors in both descriptor rings; the card is a producer only in the
completion ring, where a phase bit tells a new entry from one of the previous lap.

Source: descriptor and status sizes of the Xilinx QDMA drivers (memory-mapped descriptor 32 bytes,
status 8 bytes, completion 16 bytes); command ids and phase as in NVMe 1.4, section 4.6.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import CardError, InputError
from accel.fpga.memory import Memory

INDEX_MASK = 0xFFFF
MIN_RING, MAX_RING = 64, 16384
PHASE = 1

DESCRIPTOR = np.dtype(
    [
        ("source", "<u8"),
        ("length", "<u4"),
        ("flags", "<u2"),
        ("cid", "<u2"),
        ("destination", "<u8"),
        ("generation", "<u2"),
        ("program", "<u2"),
        ("checksum", "<u4"),  # CRC-32 of the bytes, with Flag.CHECK
    ]
)
COMPLETION = np.dtype(
    [
        ("cid", "<u2"),
        ("generation", "<u2"),
        ("reserved", "<u2"),
        ("status", "<u2"),  # bit 0 is the phase, the rest a Status
        ("length", "<u4"),
        ("checksum", "<u4"),  # CRC-32 of the c2h bytes, with Flag.CHECK
    ]
)
STATUS = np.dtype([("pidx", "<u2"), ("cidx", "<u2"), ("reserved", "<u4")])
DESCRIPTOR_BYTES, COMPLETION_BYTES = DESCRIPTOR.itemsize, COMPLETION.itemsize
STATUS_BYTES = STATUS.itemsize
# The same structures for one entry at a time, which NumPy reads far slower.
PACKED_DESCRIPTOR = struct.Struct("<QIHHQHHI")
PACKED_COMPLETION = struct.Struct("<4H2I")
PACKED_STATUS = struct.Struct("<2HI")


class Flag(IntFlag):
    """Bits of a descriptor."""

    FIRST = 1  # first descriptor of its command
    LAST = 2  # last descriptor of its command in this ring
    RUN = 4  # h2c: run the program on the frame once the bytes are there
    AFTER = 8  # c2h: copy only when the command's program has run
    CHECK = 16  # carry a CRC-32 from end to end


class Status(IntEnum):
    """Outcome the card reports for a command."""

    OK = 0
    DESCRIPTOR_ERROR = 1
    PROGRAM_ERROR = 2
    MEMORY_ERROR = 3
    LINK_ERROR = 4
    FIREWALL = 5


class Descriptor(NamedTuple):
    """The fields of a descriptor in the order of its bytes."""

    source: int
    length: int
    flags: int
    cid: int
    destination: int
    generation: int
    program: int
    checksum: int


OK = Status.OK  # looking it up in its class takes as long as a call
STATUSES = tuple(Status)
"""By their value."""


class Completion(NamedTuple):
    """One entry the card wrote: command id, outcome, bytes moved, CRC-32 of those sent back."""

    cid: int
    generation: int
    status: Status
    length: int
    checksum: int

    @property
    def ok(self) -> bool:
        """Whether the command succeeded."""
        return self.status is OK


def check_ring_size(size: int) -> int:
    """Return `size`; raise InputError unless it is a power of two in 64 … 16384."""
    if not isinstance(size, int) or not MIN_RING <= size <= MAX_RING or size & (size - 1):
        raise InputError(
            f"ring size {size!r} is not usable; expected a power of two from "
            f"{MIN_RING} to {MAX_RING}"
        )
    return size


class DescriptorRing:
    """The software side of a ring of 32-byte descriptors; its bytes lie in host memory.

    One status entry, in which the card reports how far it has read, stands behind the slots.
    """

    def __init__(self, host: Memory, size: int) -> None:
        self.size = check_ring_size(size)
        self.buffer = host.allocate(size * DESCRIPTOR_BYTES + STATUS_BYTES, 4096)
        raw = host.view(self.buffer.address, self.buffer.n_bytes)
        self.entries: NDArray[Any] = raw[: size * DESCRIPTOR_BYTES].view(DESCRIPTOR)
        self.status: NDArray[Any] = raw[size * DESCRIPTOR_BYTES :].view(STATUS)
        self.pidx = 0
        self.rung = 0  # pidx at the last doorbell
        self.raw = raw.data
        self._seen = 0  # cidx when it was last read

    @property
    def cidx(self) -> int:
        """Entries the card says it has fetched, modulo 2**16."""
        found: int = PACKED_STATUS.unpack_from(self.raw, self.size * DESCRIPTOR_BYTES)[1]
        return found

    @property
    def space(self) -> int:
        """Descriptors that can still be posted."""
        return self.size - ((self.pidx - self.cidx) & INDEX_MASK)

    @property
    def full(self) -> bool:
        """Whether no descriptor can be posted; the status entry is read only when it may be so."""
        if (self.pidx - self._seen) & INDEX_MASK < self.size:
            return False
        self._seen = self.cidx
        return (self.pidx - self._seen) & INDEX_MASK >= self.size

    def push(
        self,
        source: int,
        destination: int,
        length: int,
        flags: int,
        cid: int,
        generation: int,
        program: int = 0,
        checksum: int = 0,
    ) -> None:
        """Write one descriptor at `pidx`. Raises CardError when the ring is full."""
        if self.full:
            raise CardError(
                f"ring of {self.size} descriptors is full; ring the doorbell and let the card run"
            )
        index = self.pidx
        PACKED_DESCRIPTOR.pack_into(
            self.raw, (index & (self.size - 1)) * DESCRIPTOR_BYTES,
            source, length, flags, cid, destination, generation, program, checksum,
        )  # fmt: skip
        self.pidx = (index + 1) & INDEX_MASK


class CompletionRing:
    """The software side of a ring of 16-byte completions; its bytes lie in host memory."""

    def __init__(self, host: Memory, size: int) -> None:
        self.size = check_ring_size(size)
        self.buffer = host.allocate(size * COMPLETION_BYTES, 4096)
        raw = host.view(self.buffer.address, self.buffer.n_bytes)
        self.entries: NDArray[Any] = raw.view(COMPLETION)
        self.cidx = 0
        self.raw = raw.data

    def pop(self, generation: int) -> Completion | None:
        """Return the next new entry, or None.

        An entry is not new while its phase bit is that of the last lap, nor when it is of another
        `generation`: then it was under way before a reset, and the card will write this slot again.
        """
        index, size = self.cidx, self.size
        at = (index & (size - 1)) * COMPLETION_BYTES
        cid, found, _, status, length, checksum = PACKED_COMPLETION.unpack_from(self.raw, at)
        if status & PHASE != phase_of(index, size) or found != generation:
            return None
        self.cidx = (index + 1) & INDEX_MASK
        return Completion(cid, found, STATUSES[status >> 1], length, checksum)


def phase_of(index: int, size: int) -> int:
    """Return the phase bit of a free-running index: 1 on the first lap, 0 on the second, …"""
    return 1 ^ ((index // size) & 1)
