"""Streaming queues: packets instead of addresses in card memory.

An H2C stream descriptor is 16 bytes and names host bytes to send; those up to the one marked LAST
are one packet, which goes to the card's `consumer`. What that returns goes back through C2H stream
descriptors of 8 bytes, each the address of a host buffer; the completion entry tells the packet's
length and how many buffers it took. Without buffers a packet waits on the card, and while too many
wait no more descriptors are fetched.

Source: descriptor sizes of the Xilinx QDMA drivers.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from accel.errors import CardError, InputError
from accel.fpga.card import Card
from accel.fpga.ring import INDEX_MASK, PHASE, check_ring_size, phase_of

H2C_STREAM = struct.Struct("<IHHQ")  # packet number, length, flags, source
C2H_STREAM = struct.Struct("<Q")  # destination
STREAM_DONE = struct.Struct("<HHI")  # phase in bit 0, buffers used, length
LAST = 1
MAX_LENGTH = 2**16 - 1
WAITING = 64
"""Packets that may wait on the card for buffers."""

Consumer = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Packet:
    """A packet that came back: its bytes, and the host buffers it took, for the next `offer`."""

    data: bytes
    buffers: tuple[int, ...]


class _Ring:
    """A ring of bytes in host memory, its free-running indices, and what the card was told."""

    def __init__(self, card: Card, size: int, entry: struct.Struct) -> None:
        self.size = check_ring_size(size)
        self.entry = entry
        self.buffer = card.host.allocate(size * entry.size, 4096)
        self.raw = card.host.view(self.buffer.address, self.buffer.n_bytes).data
        self.pidx = self.cidx = self.told = 0

    @property
    def space(self) -> int:
        return self.size - ((self.pidx - self.cidx) & INDEX_MASK)

    def push(self, *fields: int) -> None:
        if self.space < 1:
            raise CardError(
                f"stream ring of {self.size} descriptors is full; ring the doorbell and let the "
                f"card run"
            )
        self.entry.pack_into(self.raw, (self.pidx & (self.size - 1)) * self.entry.size, *fields)
        self.pidx = (self.pidx + 1) & INDEX_MASK

    def pop(self) -> tuple[int, ...]:
        at = (self.cidx & (self.size - 1)) * self.entry.size
        self.cidx = (self.cidx + 1) & INDEX_MASK
        return self.entry.unpack_from(self.raw, at)

    def clear(self) -> None:
        self.raw[:] = bytes(len(self.raw))
        self.pidx = self.cidx = self.told = 0

    def pending(self) -> int:
        """Descriptors the card has been told of and has not taken."""
        return (self.told - self.cidx) & INDEX_MASK


class Stream:
    """A streaming queue of a card.

    Parameters
    ----------
    card : any card
    consumer : gets the bytes of each packet on the card and returns those to send back; the
        default sends packets back as they are
    ring_size : descriptors in each ring, a power of two in 64 … 16384
    buffer_bytes : of every host buffer that `offer` names

    Attributes
    ----------
    errors : why packets were dropped on the card, at most the latest 100: the consumer failed, or
        returned more than the ring has buffers

    Examples
    --------
    >>> card = Card("alveo-u200")
    >>> stream = Stream(card, consumer=bytes.upper)
    >>> here, there = card.host.allocate(64), card.host.allocate(stream.buffer_bytes)
    >>> card.host.write(here.address, b"hello")
    >>> stream.offer(there.address)
    >>> stream.send(here.address, 5)
    >>> stream.doorbell()
    >>> card.run()
    >>> [packet.data for packet in stream.packets()]
    [b'HELLO']
    """

    def __init__(
        self,
        card: Card,
        consumer: Consumer = bytes,
        ring_size: int = 256,
        buffer_bytes: int = 4096,
    ) -> None:
        if not 1 <= buffer_bytes <= MAX_LENGTH:
            raise InputError(f"buffer_bytes is {buffer_bytes}; expected 1 to {MAX_LENGTH}")
        self.buffer_bytes = buffer_bytes
        self._card = card
        self._consumer = consumer
        self._h2c = _Ring(card, ring_size, H2C_STREAM)
        self._c2h = _Ring(card, ring_size, C2H_STREAM)
        self._done = _Ring(card, ring_size, STREAM_DONE)
        self._batch = int(card.profile.value("dma.fetch_batch"))
        self._fetching = False
        self._parts: list[bytes] = []
        self._outgoing: deque[bytes] = deque()
        self._offered: deque[int] = deque()
        self._number = 0
        self._epoch = 0
        self.errors: deque[str] = deque(maxlen=100)
        card.on_reset.append(self._reset)

    @property
    def space(self) -> tuple[int, int]:
        """Descriptors that `send` and `offer` still take."""
        return self._h2c.space, self._c2h.space

    def send(self, source: int, length: int, last: bool = True) -> None:
        """Post one H2C descriptor of 16 bytes; `last` ends the packet.

        Raises InputError for a length outside 1 … 65535 or bytes outside a buffer, CardError when
        the ring is full.
        """
        if not 1 <= length <= MAX_LENGTH:
            raise InputError(f"length is {length} bytes; expected 1 to {MAX_LENGTH}")
        self._card.host.view(source, length)
        self._h2c.push(self._number, length, LAST if last else 0, source)
        self._number = (self._number + last) & 0xFFFF_FFFF

    def offer(self, destination: int) -> None:
        """Post one C2H descriptor of 8 bytes: a host buffer of `buffer_bytes` for what comes.

        Raises InputError for bytes outside a buffer, CardError when the ring is full.
        """
        self._card.host.view(destination, self.buffer_bytes)
        self._c2h.push(destination)
        self._offered.append(destination)

    def doorbell(self) -> None:
        """Tell the card how far both rings are filled."""
        for ring in (self._c2h, self._h2c):
            pidx = ring.pidx
            self._at(self._card.link.register_write(), partial(self._rung, ring, pidx))

    def packets(self) -> list[Packet]:
        """Take the packets that came back, in order."""
        taken: list[Packet] = []
        done = self._done
        while True:
            at = (done.cidx & (done.size - 1)) * STREAM_DONE.size
            state, used, length = STREAM_DONE.unpack_from(done.raw, at)
            if state & PHASE != phase_of(done.cidx, done.size) or not used:
                return taken
            done.cidx = (done.cidx + 1) & INDEX_MASK
            buffers = tuple(self._offered.popleft() for _ in range(used))
            host = self._card.host
            data = b"".join(host.view(b, self.buffer_bytes).tobytes() for b in buffers)
            taken.append(Packet(data[:length], buffers))

    def _reset(self) -> None:
        """Start again with empty rings; packets and offered buffers are forgotten."""
        self._epoch += 1
        for ring in (self._h2c, self._c2h, self._done):
            ring.clear()
        self._fetching = False
        self._parts.clear()
        self._outgoing.clear()
        self._offered.clear()

    def _at(self, time_ps: int, action: Callable[[], None]) -> None:
        """Do something later, unless the card is reset before."""
        epoch = self._epoch
        self._card.env.call_at(time_ps, lambda: action() if epoch == self._epoch else None)

    def _rung(self, ring: _Ring, pidx: int) -> None:
        ring.told = pidx
        self._drain()
        self._fetch()

    def _fetch(self) -> None:
        """Read H2C descriptors, then their bytes, while the card has room for packets."""
        count = min(self._h2c.pending(), self._batch)
        if self._fetching or not count or len(self._outgoing) >= WAITING:
            return
        self._fetching = True
        link = self._card.link

        def fetched() -> None:
            pieces = [self._h2c.pop() for _ in range(count)]
            self._fetching = False
            end = 0
            for _, length, flags, source in pieces:
                end = link.read(length, "h2c stream")
                self._at(end, partial(self._landed, source, length, flags))
            self._at(end, self._fetch)

        self._at(link.read(count * H2C_STREAM.size, "fetch"), fetched)

    def _landed(self, source: int, length: int, flags: int) -> None:
        self._parts.append(self._card.host.view(source, length).tobytes())
        if flags & LAST:
            packet, self._parts = b"".join(self._parts), []
            self._consume(packet)
            self._drain()

    def _consume(self, packet: bytes) -> None:
        try:
            answer = self._consumer(packet)
        except Exception as error:  # it must cost this packet, not the event loop
            self.errors.append(f"consumer: {type(error).__name__}: {error}")
            return
        if self._needed(answer) > self._c2h.size:
            self.errors.append(
                f"a packet of {len(answer)} bytes takes {self._needed(answer)} buffers of "
                f"{self.buffer_bytes}; the ring holds {self._c2h.size}"
            )
            return
        self._outgoing.append(answer)

    def _needed(self, packet: bytes) -> int:
        return max(1, -(-len(packet) // self.buffer_bytes))

    def _drain(self) -> None:
        """Send what waits, as far as there are buffers and room for its completion."""
        while self._outgoing:
            packet = self._outgoing[0]
            needed = self._needed(packet)
            if self._c2h.pending() < needed or self._done.space < 1:
                return
            self._outgoing.popleft()
            self._send(packet, [self._c2h.pop()[0] for _ in range(needed)])

    def _send(self, packet: bytes, buffers: list[int]) -> None:
        card, done = self._card, self._done
        index, done.pidx = done.pidx, (done.pidx + 1) & INDEX_MASK
        state = phase_of(index, done.size)
        for i, address in enumerate(buffers):
            piece = packet[i * self.buffer_bytes : (i + 1) * self.buffer_bytes]
            if piece:
                end = card.link.write(len(piece), "c2h stream")
                self._at(end, partial(card.host.write, address, piece))

        def complete() -> None:
            at = (index & (done.size - 1)) * STREAM_DONE.size
            STREAM_DONE.pack_into(done.raw, at, state, len(buffers), len(packet))

        self._at(card.link.write(STREAM_DONE.size, "completion"), complete)
