"""Frames of one connection, read in large pieces.

A frame is name[28] (UTF-8, filled up with zero bytes), length[4, big-endian], bytes.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress

from spark_bridge.spool import HEADER, Frame

FRAME_S = 30.0  # between the first byte of a frame and any later one
PIECE_BYTES = 1 << 18  # written at once as well: a file takes it for half the time of 40 KB pieces
MOST = 64  # frames given at once


class FrameError(Exception):
    """A sender broke the protocol; its connection is of no more use."""


class Inbox:
    """What has come and was not read yet.

    Parameters
    ----------
    max_bytes : the largest content taken.
    """

    def __init__(self, connection: socket.socket, max_bytes: int) -> None:
        self._connection, self._max_bytes = connection, max_bytes
        self._bytes = bytearray(PIECE_BYTES)
        self._start = self._end = 0

    def read(self) -> list[Frame]:
        """The next frame, and those after it that have come whole; none where the sender ended
        between two frames. Contents are good until the next call.

        Raises
        ------
        FrameError
            A length beyond `max_bytes`, a name that is no text, or an end within the frame.
        OSError
            The connection broke, or stood still within the frame.
        """
        if not self._fill(HEADER.size, "its header"):
            return []
        self._fill(HEADER.size + self._header()[1], "its content")
        frames: list[Frame] = []
        with suppress(FrameError):  # of a later frame: the next call tells
            while len(frames) < MOST and (frame := self._take()) is not None:
                frames.append(frame)
        return frames

    def is_empty(self) -> bool:
        """Whether nothing more has come."""
        return self._start == self._end and not select.select([self._connection], [], [], 0)[0]

    def _header(self) -> tuple[bytes, int]:
        """Name and length of the next frame."""
        name, length = HEADER.unpack_from(self._bytes, self._start)
        if length > self._max_bytes:
            raise FrameError(f"a frame of {length} bytes; at most {self._max_bytes} are taken")
        try:
            frame_name(name)
        except UnicodeDecodeError:
            raise FrameError(f"a name that is not UTF-8: {name!r}") from None
        return name, length

    def _take(self) -> Frame | None:
        """The next frame where all of it has come."""
        if self._end - self._start < HEADER.size:
            return None
        name, length = self._header()
        first = self._start + HEADER.size
        if self._end < first + length:
            return None
        self._start = first + length
        return name, memoryview(self._bytes)[first : self._start]

    def _fill(self, count: int, what: str) -> bool:
        """Read until `count` bytes are there; False where the sender ended before the first.
        Memory grows with what came, not with what was claimed."""
        while (held := self._end - self._start) < count:
            self._make_room(held)
            self._connection.settimeout(FRAME_S if held else None)
            with memoryview(self._bytes) as room:
                came = self._connection.recv_into(room[self._end :])
            if not came and held:
                raise FrameError(f"the sender ended {count - held} bytes before the end of {what}")
            if not came:
                return False
            self._end += came
        return True

    def _make_room(self, held: int) -> None:
        """Move what is held to the front; into twice the memory where it fills all of it."""
        if self._start:
            self._bytes[:held] = self._bytes[self._start : self._end]
            self._start, self._end = 0, held
        if held == len(self._bytes):
            self._bytes = self._bytes + bytes(held)  # in a new place: a content may be in use


def frame_name(name: bytes) -> str:
    """The text of a name of 28 bytes."""
    return name.rstrip(b"\0").decode("utf-8")
