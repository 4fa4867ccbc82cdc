"""An Ethernet port on the card: frames arrive in UDP packets and never touch the host or PCIe.

Packets carry a 24-byte header. The port puts their bytes into a reassembly slot in card memory;
a complete frame goes to the same scheduler as frames from PCIe, and the outputs leave as packets.
A packet that is truncated or altered is dropped; a frame that stays incomplete is given up.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from accel.errors import CardError, InputError
from accel.fpga.card import Card
from accel.fpga.clock import Server, cycles_to_ps, seconds_to_ps, transfer_ps
from accel.fpga.faults import Fault
from accel.fpga.memory import Buffer
from accel.fpga.network import Network
from accel.fpga.packet import DEFAULT_PAYLOAD, HEADER, UDP_OVERHEAD, Assembly, split, wire_bytes
from accel.fpga.ring import Status


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
        self._receive_wire = Server(card.env, "nic in", card.trace.recorder)
        self._send_wire = Server(card.env, "nic out", card.trace.recorder)
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
            self.card.env.call_at(arrived + self._latency_ps + delay, lambda: self._parse(packet))

    def utilisation(self) -> dict[str, float]:
        """Return the share of the time so far that each part of the port was busy."""
        elapsed = max(1, self.card.now_ps - self.card.ready_ps)
        parts = (self._receive_wire, self._send_wire, self._parser)
        return {part.name: min(1.0, part.busy_ps / elapsed) for part in parts}

    def _line_ps(self, payload: int) -> int:
        return transfer_ps(wire_bytes(payload), self._line_bytes_per_s)

    def _parse(self, packet: bytes) -> None:
        words = -(-(len(packet) + UDP_OVERHEAD) // self._word)
        done = self._parser.reserve(cycles_to_ps(words, self._clock))
        self.card.env.call_at(done, lambda: self._receive(packet))

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
        self.card.env.call_at(
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
                self.card.env.call_at(arrival, lambda packet=packet: self._deliver(packet))  # type: ignore[misc]
        self._close(request)

    def _after_reset(self) -> None:
        """Give all slots back: the frames in them will not be computed."""
        self.counts["reset"] += len(self._slots)
        for request in list(self._slots):
            self._close(request)

    def _close(self, request: int) -> None:
        self.card.memory.free(self._slots.pop(request).buffer)
