"""Image frames from real sockets into the memory of a simulated card.

The card listens on TCP or UDP (loopback unless told otherwise). Bytes go from the socket into a
slot in card memory and nowhere else; a complete frame is handed over by its address. One thread
does all of it, the one that asks for frames: while nobody asks, TCP senders wait, and UDP datagrams
are lost beyond the socket's buffer. Simulated time is that of the frames in their order of
arrival, back to back on the card's line.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

from accel.errors import CardError, InputError
from accel.fpga.card import Card
from accel.fpga.clock import Server, seconds_to_ps, transfer_ps
from accel.fpga.frame import RECORD, Transport
from accel.fpga.memory import Buffer
from accel.fpga.packet import DEFAULT_PAYLOAD, wire_bytes
from accel.fpga.tcp_port import TcpPort
from accel.fpga.udp_port import UdpPort

MAX_FRAME_BYTES = 64 << 20
log = logging.getLogger(__name__)


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
            self._ingest.give_back(self._buffer)
            self._buffer = None


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
        self.max_frame_bytes, self.patience = max_frame_bytes, patience
        self.selector = selectors.DefaultSelector()
        self._slots = slots
        self._held = 0
        self._number = 0
        self._closed = False
        self._closing = threading.Lock()
        self._ready: deque[Frame] = deque()
        self._line = Server(card.env, "nic in", card.trace.recorder)
        value_of = card.profile.value
        self._line_bytes_per_s = value_of("nic.line_rate") / 8
        self._latency_ps = seconds_to_ps(value_of("nic.latency") + value_of("nic.wire_latency"))
        self._wake, self._waker = socket.socketpair()
        self.selector.register(self._wake, selectors.EVENT_READ)
        self._port = (TcpPort if transport == "tcp" else UdpPort)(self, host, port)
        self.address: tuple[str, int] = self._port.socket.getsockname()[:2]

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
        with self._closing:  # whoever leaves the loop meanwhile waits to shut what is used here
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
        waits = [seconds, self._port.deadline - time.monotonic()]
        finite = [wait for wait in waits if wait is not None and wait < float("inf")]
        for key, _ in self.selector.select(max(0.0, min(finite)) if finite else None):
            if key.fileobj is self._wake:
                return
            assert isinstance(key.fileobj, socket.socket)
            self._port.serve(key.fileobj)
        self._port.give_up(time.monotonic())

    def complete(
        self,
        name: str,
        buffer: Buffer,
        offset: int,
        length: int,
        sender: socket.socket | None = None,
    ) -> None:
        """Hand a frame over; its time on the line is that of full packets, back to back."""
        overhead = self._port.overhead
        full, rest = divmod(RECORD.size + length, DEFAULT_PAYLOAD - overhead)
        wire = full * wire_bytes(DEFAULT_PAYLOAD) + (wire_bytes(rest + overhead) if rest else 0)
        sent = self._line.reserve(transfer_ps(wire, self._line_bytes_per_s), name)
        self.counts["frames"] += 1
        self.counts["bytes"] += length
        self._ready.append(
            Frame(name, self._number, buffer.address + offset, length, sent + self._latency_ps,
                  self, buffer, sender)
        )  # fmt: skip
        self._number += 1

    @property
    def full(self) -> bool:
        """Whether all slots are taken."""
        return self._held >= self._slots

    def take(self, n_bytes: int) -> Buffer | None:
        """Take a slot in card memory; None when there is no room."""
        if self.full:
            return None
        try:
            buffer = self.card.memory.allocate(n_bytes + 1)  # an empty frame has an address too
        except CardError:
            return None
        self._held += 1
        return buffer

    def give_back(self, buffer: Buffer) -> None:
        """Give a slot back, and let senders go on that waited for one."""
        self.card.memory.free(buffer)
        self._held -= 1
        self._port.resume()

    def note(self, reason: str, text: str) -> None:
        """Count what was refused or given up, and keep it in words."""
        self.counts[reason] += 1
        self.errors.append(text)
        log.warning("%s", text)

    def _shut(self) -> None:
        self._port.close()
        while self._ready:
            self._ready.popleft().release()
        self.selector.close()
        with self._closing:
            self._wake.close()
            self._waker.close()
