"""Image frames as senders bring them: name[28], length[4, big-endian], bytes.

The name is UTF-8, filled up with zero bytes. Over TCP records follow each other. Over UDP a record
is one datagram, or is cut into packets with the 24-byte header of `packet.py`.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from accel.errors import InputError
from accel.fpga.packet import DEFAULT_PAYLOAD, split

Transport = Literal["tcp", "udp"]
RECORD = struct.Struct(">28sI")
MAX_NAME = 28
MAX_LENGTH = 2**32 - 1
CONNECT_S = 30.0


def pack(name: str, data: bytes) -> bytes:
    """Return one record. Raises InputError for a name or data too long for it."""
    raw = name.encode()
    if len(raw) > MAX_NAME or "\0" in name:
        raise InputError(f"frame name {name!r} does not fit into {MAX_NAME} bytes of UTF-8")
    if len(data) > MAX_LENGTH:
        raise InputError(f"frame {name!r} has {len(data)} bytes; expected at most {MAX_LENGTH}")
    return RECORD.pack(raw, len(data)) + data


def unpack_header(raw: bytes) -> tuple[str, int]:
    """Return the name and the length a record's first 32 bytes claim.

    Raises InputError for a name that is not UTF-8.
    """
    name, length = RECORD.unpack(raw)
    try:
        return name.rstrip(b"\0").decode(), length
    except UnicodeDecodeError:
        raise InputError(f"a frame's name {name!r} is not UTF-8") from None


def datagrams(name: str, data: bytes, number: int, payload: int = DEFAULT_PAYLOAD) -> list[bytes]:
    """Cut the record into UDP payloads of at most `payload` bytes; `number` tells records apart."""
    return split(np.frombuffer(pack(name, data), np.uint8), number, 0, payload)


def send(
    address: tuple[str, int],
    frames: Iterable[tuple[str, bytes]],
    transport: Transport = "tcp",
    pause: float = 0.0,
) -> int:
    """Send (name, data) frames over a real socket and return how many.

    Over UDP nothing holds the sender back: `pause` seconds after each frame do.
    Raises OSError when nobody listens, InputError for a frame that does not fit a record.
    """
    count = 0
    with _connected(address, transport) as sock:
        for count, (name, data) in enumerate(frames, 1):
            for piece in _pieces(name, data, count, transport):
                sock.sendall(piece)
            if pause:
                time.sleep(pause)
    return count


def _connected(address: tuple[str, int], transport: Transport) -> socket.socket:
    if transport == "tcp":
        return socket.create_connection(address, CONNECT_S)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    return sock


def _pieces(name: str, data: bytes, number: int, transport: Transport) -> Iterator[bytes]:
    yield from [pack(name, data)] if transport == "tcp" else datagrams(name, data, number)
