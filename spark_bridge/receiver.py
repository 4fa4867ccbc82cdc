"""Take frames from TCP senders into a spool.

With acknowledgement each frame (`spark_bridge.inbox`) is answered by its number, 8 bytes
big-endian, once it is safe on disk; a sender that was cut off sends again what was not answered,
and what is here already is answered by its old number. Names must then be unique: name, length and
CRC tell frames apart.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from spark_bridge.inbox import FRAME_S, FrameError, Inbox
from spark_bridge.spool import Buffer, Frame, Spool

GROUP = 64  # frames of one fsync at most
WINDOW = 4096  # frames a sender may have under way without an answer
SENDERS = 64
RETRY_S = 0.2
log = logging.getLogger("spark_bridge.frames")
Identity = tuple[bytes, int, int]


@dataclass(frozen=True)
class Wire:
    """How frames come.

    Attributes
    ----------
    listen : whether to listen at host and port; else the sender is there.
    acknowledge : whether frames are answered.
    max_frame_bytes : the largest frame taken.
    card : the simulated card whose network port takes them; None for a socket of this machine.
    transport : of that port.
    """

    host: str
    port: int
    listen: bool
    acknowledge: bool
    max_frame_bytes: int
    card: str | None = None
    transport: Literal["tcp", "udp"] = "tcp"


class Receiver:
    """Threads that read senders until `stop`.

    Raises
    ------
    OSError
        The port to listen on is taken.
    """

    def __init__(self, wire: Wire, spool: Spool) -> None:
        self._wire, self._spool = wire, spool
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._known: OrderedDict[Identity, int] = OrderedDict()
        self._open: set[socket.socket] = set()
        self._slots = threading.Semaphore(SENDERS)
        if wire.acknowledge:
            for number, name, data in spool.tail(WINDOW):
                self._known[identity(name, data)] = number
        work = self._connect
        if wire.listen:
            self._server = socket.create_server((wire.host, wire.port))
            self._open.add(self._server)
            work = self._listen
        threading.Thread(target=work, daemon=True, name="accel-frames").start()

    def stop(self) -> None:
        """Close every connection."""
        self._stopped.set()
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it
                except OSError:
                    continue  # gone already
        if self._wire.listen:
            self._server.close()

    def _listen(self) -> None:
        while not self._stopped.is_set():
            self._slots.acquire()
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _connect(self) -> None:
        while not self._stopped.is_set():
            try:
                address = (self._wire.host, self._wire.port)
                connection = socket.create_connection(address, FRAME_S)
            except OSError:
                self._stopped.wait(RETRY_S)
                continue
            self._slots.acquire()
            self._serve(connection)
            self._stopped.wait(RETRY_S)

    def _serve(self, connection: socket.socket) -> None:
        """Read one sender to its end; what it did not finish leaves no trace."""
        with self._lock:
            self._open.add(connection)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._read(connection)
        except (OSError, FrameError) as err:
            if not self._stopped.is_set():
                log.warning("a sender of frames was cut off: %s", err)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()
            self._slots.release()

    def _read(self, connection: socket.socket) -> None:
        resending = self._wire.acknowledge
        numbers: list[int] = []
        inbox = Inbox(connection, self._wire.max_frame_bytes)
        try:
            while frames := inbox.read():
                known = [*self._old_numbers(frames)] if resending else []
                resending = len(known) == len(frames)
                numbers += [*known, *self._keep(frames[len(known) :])]
                if len(numbers) >= GROUP or inbox.is_empty():
                    self._answer(connection, numbers)
                    numbers = []
        finally:  # whole frames count, whatever came after them
            self._answer(connection, numbers)

    def _old_numbers(self, frames: Sequence[Frame]) -> Iterator[int]:
        """Numbers of the first frames, as many as are here already."""
        for frame in frames:
            number = self._known.get(identity(*frame))
            if number is None:
                return
            yield number

    def _keep(self, frames: Sequence[Frame]) -> range:
        """Numbers of frames that are new."""
        numbers = self._spool.append(frames)
        if self._wire.acknowledge:
            with self._lock:
                for frame, number in zip(frames, numbers, strict=True):
                    self._known[identity(*frame)] = number
                while len(self._known) > WINDOW:
                    self._known.popitem(last=False)
        return numbers

    def _answer(self, connection: socket.socket, numbers: list[int]) -> None:
        if not numbers or self._stopped.is_set():
            return
        self._spool.sync(durable=self._wire.acknowledge)
        if self._wire.acknowledge:
            connection.sendall(struct.pack(f">{len(numbers)}Q", *numbers))


def identity(name: bytes, data: Buffer) -> Identity:
    """What tells frames apart; `name` is the 28 bytes of the wire."""
    return name, len(data), zlib.crc32(data)
