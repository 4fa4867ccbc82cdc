"""The PCIe link: two directions, the bytes each transfer costs, and the limit on open reads.

Packets of one direction are acknowledged, and their credits returned, by small packets in the
other. So a direction has all of the wire while the other is silent; with both saturated each keeps
the bandwidth of the equation in the source.

Source: Neugebauer et al., "Understanding PCIe performance for end host networking", SIGCOMM 2018,
section 3, for the arithmetic of transaction-layer packets (TLP).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from accel.fpga.clock import PS_PER_S, Clock, Recorder, Server, seconds_to_ps, transfer_ps
from accel.fpga.profile import Profile

WRITE_HEADER = 24
READ_REQUEST = 24
COMPLETION_HEADER = 20
BOUNDARY_BYTES = 4 / 1538  # skip ordered set, every 1538 symbols
PAGE = 4096


@dataclass(frozen=True)
class LinkSpec:
    """Parameters of a link; sizes in bytes, times in seconds, rates per second.

    `ack_limit` and `credit_limit` are the bytes between two 8-byte acknowledgements and between
    two 8-byte flow-control updates. `read_window` is how many bytes of reads may be open,
    `read_tags` how many reads; `write_rate` is how many writes the engine can issue a
    second. The engine cuts transfers into pieces of `max_read_request` bytes and leaves the wire
    idle for `piece_overhead` before each. Each page of 4 KB costs a `page_walk` where the host does
    not have its translation at hand.
    """

    gigatransfers: float
    lanes: int
    max_payload: int
    max_read_request: int
    ack_limit: float
    credit_limit: float
    read_latency: float
    read_window: float
    read_tags: float
    write_rate: float
    write_latency: float
    doorbell_latency: float
    piece_overhead: float = 0.0
    page_walk: float = 0.0

    @classmethod
    def from_profile(cls, profile: Profile) -> LinkSpec:
        """Take the link's numbers from a card profile."""
        value = profile.value
        return cls(
            gigatransfers=value("link.gigatransfers"),
            lanes=int(value("link.lanes")),
            max_payload=int(value("link.max_payload")),
            max_read_request=int(value("link.max_read_request")),
            ack_limit=value("link.ack_limit"),
            credit_limit=value("link.credit_limit"),
            read_latency=value("link.read_latency"),
            read_window=value("link.read_window"),
            read_tags=value("link.read_tags"),
            write_rate=value("link.write_rate"),
            write_latency=value("link.write_latency"),
            doorbell_latency=value("link.doorbell_latency"),
            piece_overhead=value("link.piece_overhead"),
            page_walk=value("link.page_walk"),
        )

    @property
    def wire_bandwidth(self) -> float:
        """Bytes per second of one direction while the other is silent."""
        return self.gigatransfers * 1e9 * self.lanes * 128 / 130 / 8 * (1 - BOUNDARY_BYTES)

    @property
    def answer_bytes(self) -> float:
        """Bytes that go back for each byte of packets: acknowledgements and credits."""
        return 8 / self.ack_limit + 8 / self.credit_limit

    @property
    def tlp_bandwidth(self) -> float:
        """Bytes per second of packets in each direction while both are saturated."""
        raw = self.gigatransfers * 1e9 * self.lanes * 128 / 130 / 8
        return raw * (1 - self.answer_bytes - BOUNDARY_BYTES)

    def read_bandwidth(self, n_bytes: int) -> float:
        """Bytes per second of back-to-back reads of `n_bytes` each."""
        n_reads = math.ceil(n_bytes / self.max_read_request)
        wire = self.completion_wire_bytes(n_bytes) / self.wire_bandwidth
        window = max(n_bytes / self.read_window, n_reads / self.read_tags) * self.read_latency
        return n_bytes / max(wire + self.idle(n_bytes), window, self.walk(n_bytes))

    def idle(self, n_bytes: int) -> float:
        """Seconds the wire stands still for the pieces of a transfer."""
        return math.ceil(n_bytes / self.max_read_request) * self.piece_overhead

    def walk(self, n_bytes: int) -> float:
        """Seconds the walker is busy for a transfer that begins on a page."""
        return math.ceil(n_bytes / PAGE) * self.page_walk

    def write_wire_bytes(self, n_bytes: int) -> int:
        """Bytes on the wire for a posted write of `n_bytes`."""
        return math.ceil(n_bytes / self.max_payload) * WRITE_HEADER + n_bytes

    def request_wire_bytes(self, n_bytes: int) -> int:
        """Bytes on the wire for the requests of a read of `n_bytes`."""
        return math.ceil(n_bytes / self.max_read_request) * READ_REQUEST

    def completion_wire_bytes(self, n_bytes: int) -> int:
        """Bytes on the wire for the data of a read of `n_bytes`."""
        return math.ceil(n_bytes / self.max_payload) * COMPLETION_HEADER + n_bytes


class Link:
    """The link in time: each call reserves the wire and returns when the transfer is over.

    `up` carries card to host (writes and read requests), `down` host to card (read data and
    register writes).
    """

    def __init__(self, env: Clock, spec: LinkSpec, recorder: Recorder | None = None) -> None:
        self.env = env
        self.spec = spec
        self.up = Server(env, "pcie up", recorder)
        self.down = Server(env, "pcie down", recorder)
        self._read_latency_ps = seconds_to_ps(spec.read_latency)
        self._write_latency_ps = seconds_to_ps(spec.write_latency)
        self._doorbell_latency_ps = seconds_to_ps(spec.doorbell_latency)
        self._register_ps = self._wire_ps(spec.write_wire_bytes(4))
        self._reads = Server(env, "open reads")
        self._writes = Server(env, "write issue")
        self._walker = Server(env, "page walker")
        self._read_costs = cache(self._read_cost)  # few sizes, asked for again and again
        self._write_costs = cache(self._write_cost)

    def read(self, n_bytes: int, what: str = "") -> int:
        """Reserve a read of host memory by the card; return the picosecond the data is there.

        The wire, and the limit on open reads, overlap between reads; the latency is added once.
        """
        requests, window, data, walk = self._read_costs(n_bytes)
        end = self.up.reserve(requests, what)
        if (opened := self._reads.reserve(window)) > end:
            end = opened
        if (arrived := self.down.reserve(data, what)) > end:
            end = arrived
        if walk and (walked := self._walker.reserve(walk)) > end:
            end = walked
        return end + self._read_latency_ps

    def write(self, n_bytes: int, what: str = "") -> int:
        """Reserve a posted write to host memory; return the picosecond the host can see it."""
        data, answers, issue, walk = self._write_costs(n_bytes)
        end = self.up.reserve(data, what)
        if (issued := self._writes.reserve(issue)) > end:
            end = issued
        self.down.reserve(answers)
        if walk and (walked := self._walker.reserve(walk)) > end:
            end = walked
        return end + self._write_latency_ps

    def register_write(self) -> int:
        """Reserve a posted 4-byte register write; return the picosecond the card sees it."""
        return self.down.reserve(self._register_ps) + self._doorbell_latency_ps

    def _read_cost(self, n_bytes: int) -> tuple[int, int, int, int]:
        """Picoseconds of the requests, the window of open reads, the data, and the walker."""
        spec = self.spec
        wire = spec.completion_wire_bytes(n_bytes)
        requests = spec.request_wire_bytes(n_bytes) + spec.answer_bytes * wire
        n_reads = math.ceil(n_bytes / spec.max_read_request)
        share = max(n_bytes / spec.read_window, n_reads / spec.read_tags)
        return (
            self._wire_ps(requests),
            seconds_to_ps(spec.read_latency * share),
            self._wire_ps(wire) + seconds_to_ps(spec.idle(n_bytes)),
            seconds_to_ps(spec.walk(n_bytes)),
        )

    def _write_cost(self, n_bytes: int) -> tuple[int, int, int, int]:
        """Picoseconds of the data, its answers, the issue of the packets, and the walker."""
        spec = self.spec
        wire = spec.write_wire_bytes(n_bytes)
        n_packets = math.ceil(n_bytes / spec.max_payload)
        return (
            self._wire_ps(wire) + seconds_to_ps(spec.idle(n_bytes)),
            self._wire_ps(spec.answer_bytes * wire),
            math.ceil(n_packets * PS_PER_S / spec.write_rate),
            seconds_to_ps(spec.walk(n_bytes)),
        )

    def _wire_ps(self, n_bytes: float) -> int:
        return transfer_ps(n_bytes, self.spec.wire_bandwidth)

    def clear(self) -> None:
        """Drop all queued transfers, as a reset does."""
        for server in (self.up, self.down, self._reads, self._writes, self._walker):
            server.clear()
