"""UDP datagrams of a card's port, put together to records wherever they come in any order.

A datagram is a whole record, or a piece of one behind the 24-byte header of `packet.py`. Copies
are told from new records by sender and number; a record that stays incomplete is given up.
"""

from __future__ import annotations

import selectors
import socket
import time
import zlib
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from accel.errors import InputError
from accel.fpga.faults import Fault
from accel.fpga.frame import RECORD, unpack_header
from accel.fpga.memory import Buffer
from accel.fpga.packet import HEADER, Assembly

if TYPE_CHECKING:
    from accel.fpga.ingest import Ingest

SOCKET_BUFFER = 8 << 20
MAX_DATAGRAM = 65_535
TURN = 1024  # datagrams taken at once
REMEMBERED = 4096  # records whose late copies are told from new ones
Sender = tuple[str, int]


@dataclass
class _Pieces:
    """One record on its way in datagrams: reassembled with its 32-byte header in front."""

    buffer: Buffer
    assembly: Assembly
    deadline: float


class UdpPort:
    """The socket of an `Ingest`, and the records on their way."""

    overhead = HEADER.itemsize

    def __init__(self, ingest: Ingest, host: str, port: int) -> None:
        self._ingest = ingest
        self._pieces: dict[tuple[Sender, int], _Pieces] = {}
        self._done: OrderedDict[tuple[Sender, int], None] = OrderedDict()
        self._late: deque[tuple[bytes, Sender]] = deque()
        self._drained = True
        self._most = ingest.max_frame_bytes + RECORD.size
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        self.socket.bind((host, port))
        self.socket.setblocking(False)
        ingest.selector.register(self.socket, selectors.EVENT_READ)

    @property
    def deadline(self) -> float:
        """When the first record is given up."""
        return min((pieces.deadline for pieces in self._pieces.values()), default=float("inf"))

    def give_up(self, now: float) -> None:
        """Drop records that stood still too long, unless their pieces may wait in the socket."""
        for key in [k for k, p in self._pieces.items() if p.deadline <= now and self._drained]:
            pieces = self._pieces.pop(key)
            missing, total = pieces.assembly.missing, pieces.assembly.total
            self._ingest.give_back(pieces.buffer)
            text = f"record {key[1]} of {key[0]}: {missing} of {total} bytes lost"
            self._ingest.note("expired", text)

    def resume(self) -> None:
        """Nothing waits for a slot: a datagram that found none is lost."""

    def close(self) -> None:
        """Close the socket and drop what is not complete."""
        for pieces in self._pieces.values():
            self._ingest.give_back(pieces.buffer)
        self._pieces.clear()
        self.socket.close()

    def serve(self, sock: socket.socket) -> None:
        """Take the datagrams that wait, with whatever befalls them on the line."""
        faults = self._ingest.card.faults
        self._drained = False
        for _ in range(TURN):
            try:
                data, sender = sock.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                self._drained = True
                break
            if faults.fires(Fault.PACKET_LOST):
                self._ingest.counts["lost"] += 1
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
            text = f"a datagram of {len(data)} bytes is neither a record nor a piece of one"
            self._ingest.note("malformed", text + ": truncated or altered")

    def _whole(self, data: bytes) -> None:
        buffer = self._ingest.take(len(data)) if len(data) <= self._most else None
        if buffer is None:
            self._ingest.note(
                "no slot", "a datagram found no slot in card memory; read frames faster"
            )
            return
        self._ingest.card.memory.write(buffer.address, data)
        self._finish_record(buffer, len(data))

    def _piece(
        self, sender: Sender, piece: bytes, number: int, offset: int, length: int, total: int
    ) -> None:
        key = (sender, number)
        if key in self._done:
            self._ingest.counts["stale"] += 1
            return
        if (
            length != len(piece)
            or offset + length > total
            or not RECORD.size <= total <= self._most
        ):
            text = f"a piece {offset}+{length} of a record of {total} bytes"
            self._ingest.note("malformed", f"{text}; expected at most {self._most}")
            return
        found = self._pieces.get(key)
        if found is None:
            buffer = self._ingest.take(total)
            if buffer is None:
                self._ingest.note(
                    "no slot", "a frame found no slot in card memory; read frames faster"
                )
                return
            found = self._pieces[key] = _Pieces(buffer, Assembly(total, 0), 0.0)
        elif found.assembly.total != total:
            text = f"pieces of one record claim {found.assembly.total} and {total} bytes"
            self._ingest.note("malformed", text)
            return
        found.deadline = time.monotonic() + self._ingest.patience
        self._ingest.card.memory.write(found.buffer.address + offset, piece)
        if found.assembly.add(offset, length):
            del self._pieces[key]
            self._done[key] = None
            if len(self._done) > REMEMBERED:
                self._done.popitem(last=False)
            self._finish_record(found.buffer, total)

    def _finish_record(self, buffer: Buffer, total: int) -> None:
        """Check the header of a record that lies complete in card memory."""
        raw = self._ingest.card.memory.view(buffer.address, RECORD.size).tobytes()
        try:
            name, length = unpack_header(raw)
            if length != total - RECORD.size:
                raise InputError(
                    f"frame {name!r} claims {length} bytes; {total - RECORD.size} came"
                )
        except InputError as error:
            self._ingest.give_back(buffer)
            self._ingest.note("malformed", str(error))
            return
        self._ingest.complete(name, buffer, RECORD.size, length)
