"""Frames on disk, between the socket that brought them and the tasks that read them.

A spool is a folder of segments. A segment is named by the number of its first frame and holds
records as they come over the wire: name[28], length[4, big-endian], bytes. One process writes;
tasks read. A record cut by a crash is cut off when the spool is opened again.
"""

from __future__ import annotations

import os
import struct
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accel.errors import InputError
from spark_bridge.folder_lock import lock_folder

HEADER = struct.Struct(">28sI")
BLOCK_BYTES = 1 << 20
Buffer = bytes | memoryview
Frame = tuple[bytes, Buffer]  # name, content
SUFFIX = ".frames"


@dataclass
class Segment:
    """One file: the number of its first frame, where each frame starts, and its size in bytes."""

    path: Path
    first: int
    starts: list[int] = field(default_factory=list)
    size: int = 0

    @property
    def end(self) -> int:
        """Number after that of its last frame."""
        return self.first + len(self.starts)

    def position(self, number: int) -> int:
        """Where a frame starts; its end for the number after the last."""
        index = number - self.first
        return self.starts[index] if index < len(self.starts) else self.size


class Spool:
    """Append frames, show those that are safe, forget those that are done.

    Parameters
    ----------
    folder : made where absent; every executor must reach it.
    segment_bytes : a segment beyond it is closed and a new one begun.
    max_bytes : `append` waits while more than this has not been taken.

    Attributes
    ----------
    end : frames below this number are on disk.

    Raises
    ------
    InputError
        Another process writes to this spool.
    """

    def __init__(self, folder: str | Path, segment_bytes: int, max_bytes: int) -> None:
        self._folder = Path(folder)
        self._segment_bytes, self._max_bytes = segment_bytes, max_bytes
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = lock_folder(self._folder)
        self._room = threading.Condition()
        self._closed = False
        names = sorted(self._folder.glob(f"*{SUFFIX}"))
        self._segments = [_opened(path) for path in names] or [self._new(0)]
        self._file = self._segments[-1].path.open("ab", buffering=0)
        self.end = self._segments[-1].end
        self._taken = self.first

    @property
    def first(self) -> int:
        """Number of the oldest frame kept."""
        return self._segments[0].first

    def append(self, frames: Sequence[Frame]) -> range:
        """Write frames and return their numbers; waits for room. `sync` makes them visible.

        Raises
        ------
        OSError
            The disk took less than the whole; nothing of it stays. Or the spool is closed.
        """
        with self._room:
            while self._waiting_bytes() > self._max_bytes and not self._closed:
                self._sync(durable=True)
                self._room.wait(1.0)
            if self._closed:
                raise OSError(f"the spool {self._folder} is closed")
            if self._segments[-1].size >= self._segment_bytes:
                self._turn()
            return self._write(frames)

    def sync(self, durable: bool) -> None:
        """Show all frames appended so far; with `durable` only after they outlast a crash."""
        with self._room:
            self._sync(durable)

    def take(self, number: int) -> None:
        """Frames below this number are read and make room for others."""
        with self._room:
            self._taken = max(self._taken, number)
            self._room.notify_all()

    def forget(self, number: int) -> None:
        """Delete segments whose frames are all below this number, except the last two."""
        with self._room:
            while len(self._segments) > 2 and self._segments[0].end <= number:
                self._segments.pop(0).path.unlink(missing_ok=True)

    def ranges(self, start: int, stop: int) -> list[tuple[str, int, int, int]]:
        """Where frames start..stop lie: (path, number of the first, first byte, end byte).

        Raises
        ------
        InputError
            They are not all here: the folder was emptied, or belongs to another query.
        """
        with self._room:
            if not self.first <= start <= stop <= self.end:
                raise InputError(
                    f"frames {start} to {stop} are asked for, but the spool {self._folder} holds "
                    f"{self.first} to {self.end}; use one spoolDir for each checkpoint"
                )
            parts = [(s, max(start, s.first), min(stop, s.end)) for s in self._segments]
            return [
                (str(s.path), low, s.position(low), s.position(high))
                for s, low, high in parts
                if low < high
            ]

    def tail(self, count: int) -> Iterator[tuple[int, bytes, Buffer]]:
        """The last `count` frames: number, name, data."""
        for path, number, low, high in self.ranges(max(self.first, self.end - count), self.end):
            for i, (name, data) in enumerate(read_records(path, low, high)):
                yield number + i, name, data

    def close(self) -> None:
        """Wake whoever waits for room, and let another process write."""
        with self._room:
            self._closed = True
            self._room.notify_all()
            self._file.close()
            os.close(self._lock_file)

    def _waiting_bytes(self) -> int:
        ends = [segment.end for segment in self._segments]
        i = min(bisect_right(ends, self._taken), len(ends) - 1)
        waiting = sum(segment.size for segment in self._segments[i:])
        return waiting - self._segments[i].position(max(self._taken, self._segments[i].first))

    def _sync(self, durable: bool) -> None:
        if self._closed:
            raise OSError(f"the spool {self._folder} is closed")
        if durable:
            os.fsync(self._file.fileno())
        self.end = self._segments[-1].end

    def _write(self, frames: Sequence[Frame]) -> range:
        segment = self._segments[-1]
        first, size = segment.end, segment.size
        starts: list[int] = []
        parts: list[Buffer] = []
        for name, data in frames:
            starts.append(size)
            size += HEADER.size + len(data)
            parts += (HEADER.pack(name, len(data)), data)
        try:
            written = os.writev(self._file.fileno(), parts)
            while written < size - segment.size:  # the rest, or what keeps it from the disk
                written += os.write(self._file.fileno(), b"".join(parts)[written:])
        except OSError:
            self._file.truncate(segment.size)
            raise
        segment.starts += starts
        segment.size = size
        return range(first, segment.end)

    def _turn(self) -> None:
        self._sync(durable=True)
        self._file.close()
        self._segments.append(self._new(self._segments[-1].end))
        self._file = self._segments[-1].path.open("ab", buffering=0)

    def _new(self, first: int) -> Segment:
        path = self._folder / f"{first:020d}{SUFFIX}"
        path.touch()
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)  # the name of a file outlasts a crash only then
        os.close(folder)
        return Segment(path, first)


def read_records(path: str | Path, start: int, stop: int) -> Iterator[Frame]:
    """The whole records between two places of a segment; contents are views of what was read."""
    with open(path, "rb", buffering=0) as file:
        wanted = BLOCK_BYTES
        while start < stop:
            block = memoryview(os.pread(file.fileno(), min(wanted, stop - start), start))
            at, size = 0, _record_bytes(block)
            while size <= len(block) - at:
                name, _ = HEADER.unpack_from(block, at)
                yield name, block[at + HEADER.size : at + size]
                at += size
                size = _record_bytes(block[at:])
            start += at
            if not at and size <= wanted:
                return  # cut off
            wanted = max(BLOCK_BYTES, size)


def _record_bytes(block: memoryview) -> int:
    """Size of the record at the start of a block, as far as it is known."""
    if len(block) < HEADER.size:
        return HEADER.size
    length: int = HEADER.unpack_from(block)[1]
    return HEADER.size + length


def _opened(path: Path) -> Segment:
    """A segment found on disk, without the record a crash has cut."""
    found = Segment(path, int(path.name.removesuffix(SUFFIX)))
    for _, data in read_records(path, 0, path.stat().st_size):
        found.starts.append(found.size)
        found.size += HEADER.size + len(data)
    os.truncate(path, found.size)
    return found
