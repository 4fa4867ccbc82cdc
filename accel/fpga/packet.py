"""Packets on the line: what they cost there, how a frame is cut into them and put together again.

Each carries a 24-byte header behind Ethernet, IPv4 and UDP. The line arithmetic meets the published
measurement of a U280 at 100 Gb/s to four digits (Xilinx/xup_vitis_network_example@0d594e6).
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.fpga.profile import Profile

HEADER = np.dtype(
    [
        ("request", "<u4"),
        ("generation", "<u4"),
        ("offset", "<u4"),
        ("total", "<u4"),
        ("length", "<u4"),
        ("checksum", "<u4"),
    ]
)
UDP_OVERHEAD = 46  # Ethernet 14, IPv4 20, UDP 8, check sequence 4
TCP_OVERHEAD = 12  # of a TCP header of 20 bytes beyond that of UDP
LINE_OVERHEAD = 20  # preamble 8, gap 12
MIN_FRAME = 64
MAX_PAYLOAD = 8972
DEFAULT_PAYLOAD = 1408


def wire_bytes(payload: int) -> int:
    """Return the bytes one UDP packet of `payload` bytes takes on the line."""
    if not 1 <= payload <= MAX_PAYLOAD:
        raise InputError(f"a payload of {payload} bytes is not possible; expected 1 to 8972")
    return max(MIN_FRAME, payload + UDP_OVERHEAD) + LINE_OVERHEAD


def udp_goodput(profile: Profile, payload: int) -> float:
    """Return the payload bytes per second that packets of `payload` bytes reach.

    The line is one limit; the parser, which takes one word a cycle, is the other.
    """
    line = profile.value("nic.line_rate") / 8 * payload / wire_bytes(payload)
    words = -(-(payload + UDP_OVERHEAD) // int(profile.value("nic.word")))
    return min(line, payload * profile.value("nic.clock") / words)


def split(data: NDArray[np.uint8], request: int, generation: int, payload: int) -> list[bytes]:
    """Cut `data` into packets of at most `payload` bytes, header included."""
    room = payload - HEADER.itemsize
    wire_bytes(payload)
    if room < 1:
        raise InputError(f"a payload of {payload} bytes leaves no room behind the 24-byte header")
    packets = []
    for start in range(0, data.size, room):
        piece = data[start : start + room].tobytes()
        fields = (request, generation, start, data.size, len(piece), zlib.crc32(piece))
        packets.append(np.array([fields], HEADER).tobytes() + piece)
    return packets


class Assembly:
    """The bytes of one frame that have arrived so far."""

    def __init__(self, total: int, generation: int) -> None:
        self.generation = generation
        self.total = total
        self.missing = total
        self.filled = np.zeros(total, bool)

    def add(self, offset: int, length: int) -> bool:
        """Mark a range as filled; tell whether the frame is complete by it."""
        before = self.missing
        self.missing -= int(length - np.count_nonzero(self.filled[offset : offset + length]))
        self.filled[offset : offset + length] = True
        return before > 0 and self.missing == 0
