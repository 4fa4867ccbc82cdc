"""TCP senders of a card's port: one connection each, records one after the other.

A sender that breaks the record format loses its connection and nobody else's; what it left
unfinished gives its slot back. While no slot is free, senders that would need one are not read, so
that they wait.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from accel.errors import InputError
from accel.fpga.frame import RECORD, unpack_header
from accel.fpga.memory import Buffer
from accel.fpga.packet import TCP_OVERHEAD

if TYPE_CHECKING:
    from accel.fpga.ingest import Ingest

CONNECTIONS = 64
NEVER = float("inf")


@dataclass
class _Reading:
    """A frame that is not complete: its slot, and how much is there."""

    name: str
    buffer: Buffer
    length: int
    received: int = 0


@dataclass
class _Sender:
    """One TCP connection: the bytes of a header, then a frame."""

    sock: socket.socket
    header: bytearray = field(default_factory=bytearray)
    reading: _Reading | None = None
    deadline: float = NEVER


class TcpPort:
    """The listening socket and the connections of an `Ingest`."""

    overhead = TCP_OVERHEAD

    def __init__(self, ingest: Ingest, host: str, port: int) -> None:
        self._ingest = ingest
        self._senders: dict[socket.socket, _Sender] = {}
        self.socket = socket.create_server((host, port))
        self.socket.setblocking(False)
        ingest.selector.register(self.socket, selectors.EVENT_READ)

    @property
    def deadline(self) -> float:
        """When the first sender's patience ends."""
        return min((sender.deadline for sender in self._senders.values()), default=NEVER)

    def serve(self, sock: socket.socket) -> None:
        """Take what one socket has ready."""
        if sock is self.socket:
            self._accept()
        else:
            self._read(self._senders[sock])

    def give_up(self, now: float) -> None:
        """Drop the senders that stood still too long within a frame."""
        for sender in [s for s in self._senders.values() if s.deadline <= now]:
            self._drop(sender, "stalled", f"no byte for {self._ingest.patience} s: {_cut(sender)}")

    def resume(self) -> None:
        """Read all senders again: a slot is free."""
        for sock in self._senders:
            if sock not in self._ingest.selector.get_map():
                self._ingest.selector.register(sock, selectors.EVENT_READ)

    def close(self) -> None:
        """Close all connections; frames that are not complete are lost."""
        for sender in list(self._senders.values()):
            self._drop(sender)
        self.socket.close()

    def _accept(self) -> None:
        sock, _ = self.socket.accept()
        if len(self._senders) >= CONNECTIONS:
            self._ingest.note("too many senders", f"a sender beyond {CONNECTIONS} was turned away")
            sock.close()
            return
        sock.setblocking(False)
        self._senders[sock] = _Sender(sock)
        self._ingest.selector.register(sock, selectors.EVENT_READ)
        self._pause_when_full()

    def _read(self, sender: _Sender) -> None:
        """Take what one TCP sender has ready: the rest of a header, or bytes of its frame."""
        reading = sender.reading
        if reading is None and self._ingest.full:
            return  # another sender took the last slot in this turn
        try:
            if reading is None:
                part = sender.sock.recv(RECORD.size - len(sender.header))
                sender.header += part
                count = len(part)
            else:
                view = self._ingest.card.memory.view(
                    reading.buffer.address + reading.received, reading.length - reading.received
                )
                count = sender.sock.recv_into(view.data)
                reading.received += count
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(sender, "broken", f"a connection broke: {error}")
            return
        if count == 0:
            between = not sender.header and reading is None
            self._drop(sender, *(() if between else ("cut", _cut(sender))))
            return
        sender.deadline = time.monotonic() + self._ingest.patience
        if reading is None and len(sender.header) == RECORD.size:
            self._begin(sender)
        elif reading is not None and reading.received == reading.length:
            self._complete(sender, reading)

    def _begin(self, sender: _Sender) -> None:
        """Check a header and take a slot for the frame it announces."""
        try:
            name, length = unpack_header(bytes(sender.header))
        except InputError as error:
            self._drop(sender, "bad name", str(error))
            return
        if length > self._ingest.max_frame_bytes:
            most = self._ingest.max_frame_bytes
            text = f"frame {name!r} claims {length} bytes; at most {most} are taken"
            self._drop(sender, "oversize", text)
            return
        buffer = self._ingest.take(length)
        if buffer is None:
            self._drop(sender, "no memory", f"card memory has no room for frame {name!r}")
            return
        sender.reading = _Reading(name, buffer, length)
        self._pause_when_full()
        if length == 0:
            self._complete(sender, sender.reading)

    def _complete(self, sender: _Sender, reading: _Reading) -> None:
        self._ingest.complete(reading.name, reading.buffer, 0, reading.length, sender.sock)
        sender.reading = None
        sender.header.clear()
        sender.deadline = NEVER

    def _drop(self, sender: _Sender, reason: str = "", text: str = "") -> None:
        """Close one connection; without a reason it had ended between two frames."""
        if sender.sock in self._ingest.selector.get_map():
            self._ingest.selector.unregister(sender.sock)
        del self._senders[sender.sock]
        sender.sock.close()
        if sender.reading is not None:
            self._ingest.give_back(sender.reading.buffer)
        if reason:
            self._ingest.note(reason, text)

    def _pause_when_full(self) -> None:
        if not self._ingest.full:
            return
        for sender in self._senders.values():
            if sender.reading is None and sender.sock in self._ingest.selector.get_map():
                self._ingest.selector.unregister(sender.sock)
                sender.deadline = NEVER


def _cut(sender: _Sender) -> str:
    if sender.reading is None:
        return f"a sender stopped after {len(sender.header)} of {RECORD.size} header bytes"
    missing = sender.reading.length - sender.reading.received
    return f"frame {sender.reading.name!r} stopped {missing} bytes before its end"
