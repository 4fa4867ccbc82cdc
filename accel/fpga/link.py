"""The PCIe link: two directions, the bytes each transfer costs, and the limit on open reads.

Source: Neugebauer et al., "Understanding PCIe performance for end host networking", SIGCOMM 2018,
section 3, for the arithmetic of transaction-layer packets (TLP).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import simpy

from accel.fpga.clock import PS_PER_S, Server, Span, seconds_to_ps, transfer_ps
from accel.fpga.profile import Profile

WRITE_HEADER = 24
READ_REQUEST = 24
COMPLETION_HEADER = 20
BOUNDARY_BYTES = 4 / 1538  # skip ordered set, every 1538 symbols


@dataclass(frozen=True)
class LinkSpec:
    """Parameters of a link; sizes in bytes, times in seconds, rates per second.

    `ack_limit` and `credit_limit` are the bytes between two 8-byte acknowledgements and between
    two 8-byte flow-control updates. `read_window` is how many bytes of reads may be open,
    `read_tags` how many reads; `write_rate` is how many writes the engine can issue a
    second. `command_overhead` is the time a direction stands idle between two transfers.
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
    command_overhead: float = 0.0

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
            command_overhead=value("link.command_overhead"),
        )

    @property
    def tlp_bandwidth(self) -> float:
        """Bytes per second left for packets after encoding, acknowledgements and credits."""
        raw = self.gigatransfers * 1e9 * self.lanes * 128 / 130 / 8
        return raw * (1 - 8 / self.ack_limit - 8 / self.credit_limit - BOUNDARY_BYTES)

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

    def __init__(self, env: simpy.Environment, spec: LinkSpec, span: Span | None = None) -> None:
        self.env = env
        self.spec = spec
        self.up = Server(env, "pcie up", span)
        self.down = Server(env, "pcie down", span)
        self._idle_ps = seconds_to_ps(spec.command_overhead)
        self._reads = Server(env, "open reads")
        self._writes = Server(env, "write issue")

    def read(self, n_bytes: int, what: str = "") -> int:
        """Reserve a read of host memory by the card; return the picosecond the data is there.

        The wire, and the limit on open reads, overlap between reads; the latency is added once.
        """
        spec = self.spec
        bandwidth = spec.tlp_bandwidth
        requested = self.up.reserve(transfer_ps(spec.request_wire_bytes(n_bytes), bandwidth), what)
        n_reads = math.ceil(n_bytes / spec.max_read_request)
        share = max(n_bytes / spec.read_window, n_reads / spec.read_tags)
        window = self._reads.reserve(seconds_to_ps(spec.read_latency * share))
        wire = transfer_ps(spec.completion_wire_bytes(n_bytes), bandwidth)
        data = self.down.reserve(wire + self._idle_ps, what)
        return max(requested, window, data) + seconds_to_ps(spec.read_latency)

    def write(self, n_bytes: int, what: str = "") -> int:
        """Reserve a posted write to host memory; return the picosecond the host can see it."""
        spec = self.spec
        wire = transfer_ps(spec.write_wire_bytes(n_bytes), spec.tlp_bandwidth)
        sent = self.up.reserve(wire + self._idle_ps, what)
        n_packets = math.ceil(n_bytes / spec.max_payload)
        issued = self._writes.reserve(math.ceil(n_packets * PS_PER_S / spec.write_rate))
        return max(sent, issued) + seconds_to_ps(spec.write_latency)

    def register_write(self) -> int:
        """Reserve a posted 4-byte register write; return the picosecond the card sees it."""
        spec = self.spec
        end = self.down.reserve(transfer_ps(spec.write_wire_bytes(4), spec.tlp_bandwidth))
        return end + seconds_to_ps(spec.doorbell_latency)

    def clear(self) -> None:
        """Drop all queued transfers, as a reset does."""
        for server in (self.up, self.down, self._reads, self._writes):
            server.clear()
