"""Image frames from real sockets into the memory of a simulated card.

The card listens on TCP or UDP (loopback unless told otherwise). Bytes go from the socket into a
slot in card memory and nowhere else; a complete frame is handed over by its address. One thread
does all of it, the one that asks for frames: while nobody asks, TCP senders wait, and UDP datagrams
are lost beyond the socket's buffer. Simulated time is that of the frames in their order of
arrival, back to back on the card's line.

A sender that breaks the record format loses its connection and nobody else's; what it left
unfinished gives its slot back.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from accel.errors import CardError, InputError
from accel.fpga.card import Card
from accel.fpga.clock import Server, seconds_to_ps, transfer_ps
from accel.fpga.faults import Fault
from accel.fpga.frame import RECORD, Transport, unpack_header
from accel.fpga.memory import Buffer
from accel.fpga.packet import DEFAULT_PAYLOAD, HEADER, TCP_OVERHEAD, Assembly, wire_bytes

MAX_FRAME_BYTES = 64 << 20
CONNECTIONS = 64
UDP_BUFFER = 8 << 20
MAX_DATAGRAM = 65_535
TURNS = 1024  # datagrams taken at once
REMEMBERED = 4096  # datagram frames whose late copies are told from new ones
log = logging.getLogger(__name__)
Sender = tuple[str, int]


@dataclass
class Frame:
    """A frame in card memory: `n_bytes` bytes at `address`, until it is released.

    Attributes
    ----------
    number : frames before it, in order of completion
    arrived_ps : simulated time of its last byte
    """

    name: str
    number: int
    address: int
    n_bytes: int
    arrived_ps: int
    _ingest: Ingest = field(repr=False)
    _buffer: Buffer | None = field(repr=False)
    _connection: socket.socket | None = field(repr=False, default=None)

    def read(self) -> bytes:
        """Return a copy of the bytes in card memory."""
        return self._ingest.card.memory.view(self.address, self.n_bytes).tobytes()

    def answer(self, number: int) -> None:
        """Send `number`, 8 bytes big-endian, back to a TCP sender; one that is gone hears nothing.

        Raises InputError for a frame that came over UDP.
        """
        if self._connection is None:
            raise InputError(f"frame {self.name!r} came over UDP, which has no way back")
        try:
            self._connection.send(number.to_bytes(8, "big"))
        except OSError as error:
            log.warning("no answer to the sender of %r: %s", self.name, error)

    def release(self) -> None:
        """Give the slot back to the card; the frame cannot be read any more."""
        if self._buffer is not None:
            self._ingest._give_back(self._buffer)
            self._buffer = None


@dataclass
class _Reading:
    """A frame that is not complete: its slot, how much is there, and when patience ends."""

    name: str
    buffer: Buffer
    length: int
    deadline: float
    received: int = 0


@dataclass
class _Sender:
    """One TCP connection: the bytes of a header, then a frame."""

    sock: socket.socket
    header: bytearray = field(default_factory=bytearray)
    reading: _Reading | None = None
    deadline: float = float("inf")


@dataclass
class _Pieces:
    """One record on its way in datagrams: reassembled with its 32-byte header in front."""

    buffer: Buffer
    assembly: Assembly
    deadline: float


class Ingest:
    """A listening port of a card.

    Parameters
    ----------
    card : a card whose profile has a network port; nobody else may use it meanwhile
    transport : "tcp" or "udp"
    host, port : where to listen; port 0 takes a free one, which `address` tells
    max_frame_bytes : a frame that claims more is refused, before memory is taken for it
    slots : frames in card memory at once, complete or not
    patience : seconds a sender may stand still within a frame

    Attributes
    ----------
    address : (host, port)
    counts : frames, bytes, and what was refused or given up, by reason
    errors : the latest reasons in words, at most 100

    Raises
    ------
    CardError
        The card has no network port.
    InputError
        An option outside its range.
    OSError
        The port is taken.

    Examples
    --------
    >>> from accel.fpga import Card, Ingest, send
    >>> with Ingest(Card("alveo-u280")) as ingest:
    ...     sent = send(ingest.address, [("a.raw", b"pixels")])
    ...     frame = next(ingest.frames(timeout=5))
    ...     found = frame.name, frame.read()
    >>> found
    ('a.raw', b'pixels')
    """

    def __init__(
        self,
        card: Card,
        transport: Transport = "tcp",
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        slots: int = 64,
        patience: float = 10.0,
    ) -> None:
        if "nic.line_rate" not in card.profile:
            raise CardError(f"card {card.profile.name} has no network port; choose another card")
        if transport not in ("tcp", "udp"):
            raise InputError(f"transport is {transport!r}; expected 'tcp' or 'udp'")
        for name, value, most in (
            ("port", port, 65535), ("max_frame_bytes", max_frame_bytes - 1, 2**32 - 2),
            ("slots", slots - 1, 65535),
        ):  # fmt: skip
            if not 0 <= value <= most:
                raise InputError(f"{name} is out of range; expected at most {most + 1}")
        if not patience > 0:
            raise InputError(f"patience is {patience} s; expected more than 0")
        self.card = card
        self.transport = transport
        self.counts: Counter[str] = Counter()
        self.errors: deque[str] = deque(maxlen=100)
        self._max_frame_bytes, self._slots, self._patience = max_frame_bytes, slots, patience
        self._held = 0
        self._number = 0
        self._closed = False
        self._ready: deque[Frame] = deque()
        self._senders: dict[socket.socket, _Sender] = {}
        self._pieces: dict[tuple[Sender, int], _Pieces] = {}
        self._done: OrderedDict[tuple[Sender, int], None] = OrderedDict()
        self._late: deque[tuple[bytes, Sender]] = deque()
        self._line = Server(card.env, "nic in", card.trace.span)
        value_of = card.profile.value
        self._line_bytes_per_s = value_of("nic.line_rate") / 8
        self._latency_ps = seconds_to_ps(value_of("nic.latency") + value_of("nic.wire_latency"))
        self._server = _listening(transport, host, port)
        self.address: Sender = self._server.getsockname()[:2]
        self._wake, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def frames(self, timeout: float | None = None) -> Iterator[Frame]:
        """Yield frames as they are complete, until none came for `timeout` seconds, or `close`.

        Without a timeout it waits for ever. Release each frame when done with it: with all slots
        taken, senders wait.
        """
        quiet_since = time.monotonic()
        while True:
            if self._ready:
                yield self._ready.popleft()
                quiet_since = time.monotonic()
                continue
            left = None if timeout is None else quiet_since + timeout - time.monotonic()
            if not self._closed:
                self._turn(left)
            if self._closed or (left is not None and left <= 0 and not self._ready):
                return

    def close(self) -> None:
        """Stop listening and drop what is not complete; any thread may call it."""
        if not self._closed:
            self._closed = True
            self._waker.send(b"x")

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self._shut()

    def _turn(self, seconds: float | None) -> None:
        """Wait at most `seconds` for bytes, take what has come, give up what stands still."""
        now = time.monotonic()
        held = [*self._senders.values(), *self._pieces.values()]
        first = min((each.deadline for each in held), default=float("inf"))
        waits = [w for w in (seconds, first - now) if w is not None and w != float("inf")]
        for key, _ in self._selector.select(max(0.0, min(waits)) if waits else None):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if sock is self._wake:
                return
            if sock is not self._server:
                self._read(self._senders[sock])
            elif self.transport == "tcp":
                self._accept()
            elif not self._datagrams():
                return  # pieces that seem late may wait in the socket
        self._give_up(time.monotonic())

    def _accept(self) -> None:
        sock, _ = self._server.accept()
        if len(self._senders) >= CONNECTIONS:
            self._note("too many senders", f"a sender beyond {CONNECTIONS} was turned away")
            sock.close()
            return
        sock.setblocking(False)
        self._senders[sock] = _Sender(sock)
        self._selector.register(sock, selectors.EVENT_READ)
        self._pause_when_full()

    def _read(self, sender: _Sender) -> None:
        """Take what one TCP sender has ready: the rest of a header, or bytes of its frame."""
        reading = sender.reading
        if reading is None and self._held >= self._slots:
            return  # another sender took the last slot in this turn
        try:
            if reading is None:
                part = sender.sock.recv(RECORD.size - len(sender.header))
                sender.header += part
                count = len(part)
            else:
                view = self.card.memory.view(
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
            whole = not sender.header and reading is None
            self._drop(sender, "" if whole else "cut", self._cut(sender))
            return
        sender.deadline = time.monotonic() + self._patience
        if reading is None and len(sender.header) == RECORD.size:
            self._begin(sender)
        elif reading is not None and reading.received == reading.length:
            self._complete(reading.name, reading.buffer, 0, reading.length, sender)

    def _begin(self, sender: _Sender) -> None:
        """Check a header and take a slot for the frame it announces."""
        try:
            name, length = unpack_header(bytes(sender.header))
        except InputError as error:
            self._drop(sender, "bad name", str(error))
            return
        if length > self._max_frame_bytes:
            self._drop(
                sender, "oversize",
                f"frame {name!r} claims {length} bytes; at most {self._max_frame_bytes} are taken",
            )  # fmt: skip
            return
        buffer = self._take(length)
        if buffer is None:
            self._drop(sender, "no memory", f"card memory has no room for frame {name!r}")
            return
        sender.reading = _Reading(name, buffer, length, sender.deadline)
        self._pause_when_full()
        if length == 0:
            self._complete(name, buffer, 0, 0, sender)

    def _complete(
        self, name: str, buffer: Buffer, offset: int, length: int, sender: _Sender | None
    ) -> None:
        """Hand a frame over; its time on the line is that of full packets, back to back."""
        overhead = TCP_OVERHEAD if self.transport == "tcp" else HEADER.itemsize
        full, rest = divmod(RECORD.size + length, DEFAULT_PAYLOAD - overhead)
        wire = full * wire_bytes(DEFAULT_PAYLOAD) + (wire_bytes(rest + overhead) if rest else 0)
        sent = self._line.reserve(transfer_ps(wire, self._line_bytes_per_s), name)
        self.counts["frames"] += 1
        self.counts["bytes"] += length
        self._ready.append(
            Frame(name, self._number, buffer.address + offset, length, sent + self._latency_ps,
                  self, buffer, sender.sock if sender else None)
        )  # fmt: skip
        self._number += 1
        if sender is not None:
            sender.reading = None
            sender.header.clear()
            sender.deadline = float("inf")

    def _datagrams(self) -> bool:
        """Take datagrams that wait, with what befalls them on the line; tell if it was all."""
        faults = self.card.faults
        drained = False
        for _ in range(TURNS):
            try:
                data, sender = self._server.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                drained = True
                break
            if faults.fires(Fault.PACKET_LOST):
                self.counts["lost"] += 1
                continue
            if faults.fires(Fault.PACKET_TRUNCATED):
                data = data[: len(data) // 2]
            if faults.fires(Fault.PACKET_REORDERED):
                self._late.append((data, sender))
                continue
            for _ in range(1 + faults.fires(Fault.PACKET_DUPLICATED)):
                self._datagram(data, sender)
        while self._late:
            self._datagram(*self._late.popleft())
        return drained

    def _datagram(self, data: bytes, sender: Sender) -> None:
        """Take one datagram: a whole record, or a piece of one behind a packet header."""
        size = HEADER.itemsize
        header = np.frombuffer(data[:size], HEADER)[0] if len(data) > size else None
        piece = data[size:]
        if header is not None and int(header["checksum"]) == zlib.crc32(piece):
            fields = (int(header[k]) for k in ("request", "offset", "length", "total"))
            self._piece(sender, piece, *fields)
        elif len(data) >= RECORD.size and RECORD.unpack_from(data)[1] == len(data) - RECORD.size:
            self._whole(data)
        else:
            self._note("malformed", f"a datagram of {len(data)} bytes is neither a record nor a "
                       f"piece of one: truncated or altered")  # fmt: skip

    def _whole(self, data: bytes) -> None:
        buffer = self._take(len(data)) if len(data) <= self._most_record() else None
        if buffer is None:
            self._note("no slot", "a datagram found no slot in card memory; read frames faster")
            return
        self.card.memory.write(buffer.address, data)
        self._finish_record(buffer, len(data))

    def _piece(
        self, sender: Sender, piece: bytes, number: int, offset: int, length: int, total: int
    ) -> None:
        key = (sender, number)
        if key in self._done:
            self.counts["stale"] += 1
            return
        if (
            length != len(piece)
            or offset + length > total
            or not RECORD.size <= total <= self._most_record()
        ):
            self._note("malformed", f"a piece {offset}+{length} of a record of {total} bytes; "
                       f"expected at most {self._most_record()}")  # fmt: skip
            return
        found = self._pieces.get(key)
        if found is None:
            buffer = self._take(total)
            if buffer is None:
                self._note("no slot", "a frame found no slot in card memory; read frames faster")
                return
            found = self._pieces[key] = _Pieces(buffer, Assembly(total, 0), 0.0)
        elif found.assembly.total != total:
            self._note("malformed", f"pieces of one record claim {found.assembly.total} and "
                       f"{total} bytes")  # fmt: skip
            return
        found.deadline = time.monotonic() + self._patience
        self.card.memory.write(found.buffer.address + offset, piece)
        if found.assembly.add(offset, length):
            del self._pieces[key]
            self._done[key] = None
            if len(self._done) > REMEMBERED:
                self._done.popitem(last=False)
            self._finish_record(found.buffer, total)

    def _finish_record(self, buffer: Buffer, total: int) -> None:
        """Check the header of a record that lies complete in card memory."""
        raw = self.card.memory.view(buffer.address, RECORD.size).tobytes()
        try:
            name, length = unpack_header(raw)
            if length != total - RECORD.size:
                raise InputError(
                    f"frame {name!r} claims {length} bytes; {total - RECORD.size} came"
                )
        except InputError as error:
            self._give_back(buffer)
            self._note("malformed", str(error))
            return
        self._complete(name, buffer, RECORD.size, length, None)

    def _most_record(self) -> int:
        return self._max_frame_bytes + RECORD.size

    def _give_up(self, now: float) -> None:
        """Drop the senders and the datagram frames that stood still too long."""
        for sender in [s for s in self._senders.values() if s.deadline <= now]:
            self._drop(sender, "stalled", f"no byte for {self._patience} s: {self._cut(sender)}")
        for key in [k for k, p in self._pieces.items() if p.deadline <= now]:
            pieces = self._pieces.pop(key)
            missing, total = pieces.assembly.missing, pieces.assembly.total
            self._give_back(pieces.buffer)
            self._note("expired", f"record {key[1]} of {key[0]}: {missing} of {total} bytes lost")

    def _cut(self, sender: _Sender) -> str:
        if sender.reading is None:
            return f"a sender stopped after {len(sender.header)} of {RECORD.size} header bytes"
        missing = sender.reading.length - sender.reading.received
        return f"frame {sender.reading.name!r} stopped {missing} bytes before its end"

    def _drop(self, sender: _Sender, reason: str, text: str) -> None:
        """Close one connection; without a reason it had ended between two frames."""
        if sender.sock in self._selector.get_map():
            self._selector.unregister(sender.sock)
        del self._senders[sender.sock]
        sender.sock.close()
        if sender.reading is not None:
            self._give_back(sender.reading.buffer)
        if reason:
            self._note(reason, text)

    def _take(self, n_bytes: int) -> Buffer | None:
        if self._held >= self._slots:
            return None
        try:
            buffer = self.card.memory.allocate(n_bytes + 1)  # an empty frame has an address too
        except CardError:
            return None
        self._held += 1
        return buffer

    def _give_back(self, buffer: Buffer) -> None:
        self.card.memory.free(buffer)
        self._held -= 1
        self._resume()

    def _pause_when_full(self) -> None:
        """Leave senders unread that would need a slot while there is none."""
        if self._held < self._slots:
            return
        for sender in self._senders.values():
            if sender.reading is None and sender.sock in self._selector.get_map():
                self._selector.unregister(sender.sock)
                sender.deadline = float("inf")

    def _resume(self) -> None:
        for sock in self._senders:
            if sock not in self._selector.get_map():
                self._selector.register(sock, selectors.EVENT_READ)

    def _note(self, reason: str, text: str) -> None:
        self.counts[reason] += 1
        self.errors.append(text)
        log.warning("%s", text)

    def _shut(self) -> None:
        for sender in list(self._senders.values()):
            self._drop(sender, "", "")
        for pieces in self._pieces.values():
            self._give_back(pieces.buffer)
        self._pieces.clear()
        while self._ready:
            self._ready.popleft().release()
        self._selector.close()
        for sock in (self._server, self._wake, self._waker):
            sock.close()


def _listening(transport: Transport, host: str, port: int) -> socket.socket:
    if transport == "tcp":
        server = socket.create_server((host, port))
    else:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER)
        server.bind((host, port))
    server.setblocking(False)
    return server
