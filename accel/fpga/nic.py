"""An Ethernet port on the card: frames arrive in UDP packets and never touch the host or PCIe.

Packets carry a 24-byte header. The port puts their bytes into a reassembly slot in card memory;
a complete frame goes to the same scheduler as frames from PCIe, and the outputs leave as packets.
A packet that is truncated or altered is dropped; a frame that stays incomplete is given up.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from accel.errors import CardError, InputError
from accel.fpga.card import Card
from accel.fpga.clock import Server, call_at, cycles_to_ps, seconds_to_ps, transfer_ps
from accel.fpga.faults import Fault
from accel.fpga.memory import Buffer
from accel.fpga.network import Arrays, Network
from accel.fpga.profile import Profile
from accel.fpga.ring import Status

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
        self.missing = total
        self.filled = np.zeros(total, bool)

    def add(self, offset: int, length: int) -> bool:
        """Mark a range as filled; tell whether the frame is complete by it."""
        before = self.missing
        self.missing -= int(length - np.count_nonzero(self.filled[offset : offset + length]))
        self.filled[offset : offset + length] = True
        return before > 0 and self.missing == 0


@dataclass
class _Slot:
    buffer: Buffer
    assembly: Assembly


class Nic:
    """The port of one card, serving one loaded network.

    Parameters
    ----------
    card : a card whose profile has a port
    program : slot of a loaded network
    deliver : called with each packet the card sends, when it has reached the other end
    payload : bytes of a packet the card sends, header included

    Raises
    ------
    CardError
        The card has no port or no engine.
    InputError
        No such program, or a payload that is too small.
    """

    def __init__(
        self,
        card: Card,
        program: int,
        deliver: Callable[[bytes], None],
        payload: int = DEFAULT_PAYLOAD,
    ) -> None:
        if "nic.line_rate" not in card.profile or card.scheduler is None:
            raise CardError(f"card {card.profile.name} has no network port before an engine")
        if not 0 <= program < len(card.scheduler.loaded):
            raise InputError(f"program {program} is not loaded on {card.profile.name}")
        self.card = card
        self.program = program
        self.network: Network = card.scheduler.loaded[program].network
        self.counts: Counter[str] = Counter()
        self._deliver = deliver
        self._payload = payload
        self._slots: dict[int, _Slot] = {}
        self._scheduler = card.scheduler
        value = card.profile.value
        self._line_bytes_per_s = value("nic.line_rate") / 8
        self._clock, self._word = value("nic.clock"), int(value("nic.word"))
        self._latency_ps = seconds_to_ps(value("nic.latency") + value("nic.wire_latency"))
        self._timeout_ps = seconds_to_ps(value("nic.timeout"))
        self._max_slots = int(value("nic.slots"))
        self._receive_wire = Server(card.env, "nic in", card.trace.span)
        self._send_wire = Server(card.env, "nic out", card.trace.span)
        self._parser = Server(card.env, "nic parser")
        card.on_reset.append(self._after_reset)

    def send(self, packet: bytes) -> None:
        """Put a packet on the line towards the card, with whatever befalls it on the way."""
        faults = self.card.faults
        if faults.fires(Fault.PACKET_LOST):
            self.counts["lost"] += 1
            return
        if faults.fires(Fault.PACKET_TRUNCATED):
            packet = packet[: max(1, len(packet) // 2)]
        copies = 2 if faults.fires(Fault.PACKET_DUPLICATED) else 1
        late = faults.fires(Fault.PACKET_REORDERED)
        delay = seconds_to_ps(faults.delay(Fault.PACKET_REORDERED)) if late else 0
        for _ in range(copies):
            arrived = self._receive_wire.reserve(self._line_ps(len(packet)), "packet")
            call_at(self.card.env, arrived + self._latency_ps + delay, lambda: self._parse(packet))

    def _line_ps(self, payload: int) -> int:
        return transfer_ps(wire_bytes(payload), self._line_bytes_per_s)

    def _parse(self, packet: bytes) -> None:
        words = -(-(len(packet) + UDP_OVERHEAD) // self._word)
        done = self._parser.reserve(cycles_to_ps(words, self._clock))
        call_at(self.card.env, done, lambda: self._receive(packet))

    def _receive(self, packet: bytes) -> None:
        """Check a packet and store its bytes; start the frame that it completes."""
        size = HEADER.itemsize
        if len(packet) < size:
            self.counts["malformed"] += 1
            return
        header = np.frombuffer(packet[:size], HEADER)[0]
        data = packet[size:]
        offset, length, total = (int(header[k]) for k in ("offset", "length", "total"))
        if (
            total != self.network.input_bytes
            or length != len(data)
            or offset + length > total
            or zlib.crc32(data) != int(header["checksum"])
        ):
            self.counts["malformed"] += 1
            return
        request, generation = int(header["request"]), int(header["generation"])
        slot = self._slot(request, generation)
        if slot is None:
            return
        self.card.memory.write(slot.buffer.address + offset, data)
        if slot.assembly.add(offset, length):
            self._scheduler.start(
                self.program,
                slot.buffer.address,
                lambda status: self._computed(request, slot, status),
            )

    def _slot(self, request: int, generation: int) -> _Slot | None:
        """Return the slot of a request, opening one; None for old packets or when all are full."""
        slot = self._slots.get(request)
        if slot is not None and slot.assembly.generation >= generation:
            if slot.assembly.generation > generation or slot.assembly.missing == 0:
                self.counts["stale"] += 1
                return None
            return slot
        if slot is not None and slot.assembly.missing == 0:
            self.counts["stale"] += 1  # an older attempt is being computed: its answer will do
            return None
        if slot is None and len(self._slots) >= self._max_slots:
            self.counts["no slot"] += 1
            return None
        buffer = slot.buffer if slot else self.card.memory.allocate(self.network.frame_bytes, 4096)
        opened = _Slot(buffer, Assembly(self.network.input_bytes, generation))
        self._slots[request] = opened
        call_at(
            self.card.env,
            self.card.now_ps + self._timeout_ps,
            lambda: self._expire(request, opened),
        )
        return opened

    def _expire(self, request: int, slot: _Slot) -> None:
        if self._slots.get(request) is slot and slot.assembly.missing:
            self.counts["expired"] += 1
            self._close(request)

    def _computed(self, request: int, slot: _Slot, status: Status) -> None:
        """Send the outputs back, straight from card memory."""
        self.counts["frames" if status is Status.OK else "failed"] += 1
        network = self.network
        raw = self.card.memory.view(
            slot.buffer.address + network.output_offset, network.output_bytes
        )
        if status is Status.OK:
            for packet in split(raw, request, slot.assembly.generation, self._payload):
                sent = self._send_wire.reserve(self._line_ps(len(packet)), "packet")
                arrival = sent + self._latency_ps
                call_at(self.card.env, arrival, lambda packet=packet: self._deliver(packet))  # type: ignore[misc]
        self._close(request)

    def _after_reset(self) -> None:
        """Give all slots back: the frames in them will not be computed."""
        self.counts["reset"] += len(self._slots)
        for request in list(self._slots):
            self._close(request)

    def _close(self, request: int) -> None:
        self.card.memory.free(self._slots.pop(request).buffer)


@dataclass
class Exchange:
    """One request over the network: its attempts, and its outputs once it has ended."""

    number: int
    inputs: Arrays
    started_ps: int
    attempts: int = 0
    answer: NDArray[np.uint8] | None = None
    assembly: Assembly | None = None
    done_ps: int = 0
    outputs: Arrays = field(default_factory=dict)

    @property
    def simulated_ns(self) -> int:
        """Nanoseconds from the first packet to the last byte of the answer."""
        return (self.done_ps - self.started_ps) // 1000


class NicClient:
    """The other end of the line: sends frames, repeats those that get no answer.

    Parameters
    ----------
    card, program : a card with a port, and the slot of a loaded network
    payload : bytes of a packet, header included
    deadline : seconds after which a request is sent again
    attempts : how often it is sent before it ends in a CardError
    """

    def __init__(
        self,
        card: Card,
        program: int,
        payload: int = DEFAULT_PAYLOAD,
        deadline: float = 5e-3,
        attempts: int = 4,
    ) -> None:
        self.nic = Nic(card, program, self._receive, payload)
        self.card = card
        self.payload = payload
        self.attempts = attempts
        self.stale = 0
        self._deadline_ps = seconds_to_ps(deadline)
        self._open: dict[int, Exchange] = {}
        self._numbers = 0

    def submit(self, inputs: Arrays) -> Exchange:
        """Send one frame and return at once."""
        exchange = Exchange(self._numbers, inputs, self.card.now_ps)
        self._numbers += 1
        self._open[exchange.number] = exchange
        self._send(exchange)
        return exchange

    def wait(self, exchange: Exchange) -> Arrays:
        """Let simulated time pass until the answer is there.

        Raises CardError when the last attempt got none.
        """
        while exchange.number in self._open:
            deadline = self.card.now_ps + self._deadline_ps
            while exchange.number in self._open and self.card.env.peek() <= deadline:
                self.card.env.step()
            if exchange.number not in self._open:
                break
            self.card.run(max(deadline, self.card.now_ps))
            if exchange.attempts >= self.attempts:
                del self._open[exchange.number]
                raise CardError(
                    f"{self.card.profile.name}: no answer over the network to request "
                    f"{exchange.number} after {exchange.attempts} attempts"
                )
            self._send(exchange)
        return exchange.outputs

    def _send(self, exchange: Exchange) -> None:
        network = self.nic.network
        frame = np.zeros(network.input_bytes, np.uint8)
        network.pack_inputs(exchange.inputs, frame)
        exchange.attempts += 1
        for packet in split(frame, exchange.number, exchange.attempts, self.payload):
            self.nic.send(packet)

    def _receive(self, packet: bytes) -> None:
        header = np.frombuffer(packet[: HEADER.itemsize], HEADER)[0]
        exchange = self._open.get(int(header["request"]))
        if exchange is None:
            self.stale += 1
            return
        if exchange.answer is None or exchange.assembly is None:
            exchange.answer = np.zeros(self.nic.network.output_bytes, np.uint8)
            exchange.assembly = Assembly(exchange.answer.size, 0)
        offset, length = int(header["offset"]), int(header["length"])
        data = np.frombuffer(packet[HEADER.itemsize :], np.uint8)
        exchange.answer[offset : offset + length] = data
        if exchange.assembly.add(offset, length):
            exchange.outputs = self.nic.network.unpack_outputs(exchange.answer)
            exchange.done_ps = self.card.now_ps
            del self._open[exchange.number]
