"""How fast a card moves bytes: the DMA hardware alone, and one request with its software.

Both run the components of the card itself, so a curve shows what a simulation would.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from accel.errors import InputError
from accel.fpga.card import Card
from accel.fpga.clock import PS_PER_S, Clock, seconds_to_ps, transfer_ps
from accel.fpga.dma import DmaSpec
from accel.fpga.link import PAGE, Link, LinkSpec
from accel.fpga.profile import Profile
from accel.fpga.request import DriverSpec

Direction = Literal["h2c", "c2h", "bidir"]
STEADY = 50
WAYS: tuple[Literal["h2c"], Literal["c2h"]] = ("h2c", "c2h")


@dataclass(frozen=True)
class Point:
    """One size of a curve: bytes, seconds per transfer, bytes per second."""

    n_bytes: int
    seconds: float
    bytes_per_s: float


def hardware_curve(profile: Profile, direction: Direction, sizes: Iterable[int]) -> list[Point]:
    """Return the steady rate of back-to-back transfers, without descriptors or software.

    With "bidir" reads and writes alternate and the rate is that of one direction.
    """
    return [_hardware_point(profile, direction, _checked(size)) for size in sizes]


def software_curve(
    profile: Profile, direction: Literal["h2c", "c2h"], sizes: Iterable[int]
) -> list[Point]:
    """Return the rate of single requests, one after the other, from the call to its return."""
    return [_software_point(profile, direction, _checked(size)) for size in sizes]


def read_latency(profile: Profile, n_bytes: int) -> float:
    """Return the seconds one DMA read takes until its bytes are in card memory."""
    link = Link(Clock(), LinkSpec.from_profile(profile))
    burst = min(_checked(n_bytes), DmaSpec.from_profile(profile).burst)
    stored = transfer_ps(burst, profile.value("memory.bandwidth"))
    return (link.read(n_bytes) + stored) / PS_PER_S


def write_read_latency(profile: Profile, n_bytes: int) -> float:
    """Return the seconds until a DMA read has fetched what a DMA write before it put there."""
    spec = LinkSpec.from_profile(profile)
    fetched = _checked(n_bytes) / profile.value("memory.bandwidth")
    sent = spec.write_wire_bytes(n_bytes) / spec.wire_bandwidth + spec.idle(n_bytes)
    return read_latency(profile, n_bytes) + spec.write_latency + fetched + sent


def bridge_curve(profile: Profile, direction: Direction, sizes: Iterable[int]) -> list[Point]:
    """Return the rate at which a kernel reads or writes host memory through the slave bridge.

    Each pass over a buffer costs a latency, the same both ways, before its bytes stream. Buffers
    beyond the reach of the address translation cost a page walk for each page. With "bidir" two
    kernels share the link, the reach and the walker; the rate is that of one.
    """
    return [_bridge_point(profile, direction, _checked(size)) for size in sizes]


def both_ways(profile: Profile, n_bytes: int) -> Point:
    """Return one direction of single requests that go both ways at once.

    The link is full duplex: each way keeps its own rate, up to what the hardware carries.
    """
    alone = [software_curve(profile, way, [n_bytes])[0] for way in WAYS]
    return max(*alone, hardware_curve(profile, "bidir", [n_bytes])[0], key=lambda p: p.seconds)


def _checked(n_bytes: int) -> int:
    if not 1 <= n_bytes <= 2**40:
        raise InputError(f"a transfer of {n_bytes} bytes is not possible; expected 1 to 2**40")
    return n_bytes


def _hardware_point(profile: Profile, direction: Direction, n_bytes: int) -> Point:
    spec = LinkSpec.from_profile(profile)
    link = Link(Clock(), spec)
    ends = {"h2c": 0, "c2h": 0}
    for _ in range(STEADY):
        if direction in ("h2c", "bidir"):
            ends["h2c"] = link.read(n_bytes) - seconds_to_ps(spec.read_latency)
        if direction in ("c2h", "bidir"):
            ends["c2h"] = link.write(n_bytes) - seconds_to_ps(spec.write_latency)
    seconds = max(ends.values()) / STEADY / PS_PER_S
    return Point(n_bytes, seconds, n_bytes / seconds)


def _bridge_point(profile: Profile, direction: Direction, n_bytes: int) -> Point:
    value, spec = profile.value, LinkSpec.from_profile(profile)
    kernels = 2 if direction == "bidir" else 1
    rate = value("bridge.bandwidth")
    if direction == "bidir":
        packets = spec.write_wire_bytes(spec.max_payload) / spec.max_payload
        rate = min(rate, spec.tlp_bandwidth / packets)
    seconds = value("bridge.pass_latency") + n_bytes / rate
    if kernels * n_bytes > value("bridge.reach"):
        seconds += kernels * -(-n_bytes // PAGE) * value("bridge.page_walk")
    return Point(n_bytes, seconds, n_bytes / seconds)


def _software_point(profile: Profile, direction: Literal["h2c", "c2h"], n_bytes: int) -> Point:
    """Time one request: submit, doorbell, fetch, data, completion, notify."""
    card = Card(profile, trace=False)
    driver = DriverSpec.from_profile(profile)
    queue = card.queue()
    pieces = _pieces(n_bytes, card.memory.capacity)
    host = card.host.allocate(max(pieces), 4096)
    memory = card.memory.allocate(max(pieces), 4096)
    source, target = (host, memory) if direction == "h2c" else (memory, host)
    seen: list[int] = []
    queue.context.on_completion = lambda: seen.append(card.now_ps)

    def submit() -> None:
        for length in pieces:
            queue.post(direction, source.address, target.address, length)
        queue.doorbell()

    card.env.call_at(seconds_to_ps(driver.submit), submit)
    card.run()
    seconds = seen[-1] / PS_PER_S + driver.notify
    return Point(n_bytes, seconds, n_bytes / seconds)


def _pieces(n_bytes: int, capacity: int) -> list[int]:
    """Cut a long transfer into at most 64 descriptors that use one buffer again and again."""
    largest = min(capacity // 2, max(1 << 20, -(-n_bytes // 64)))
    count = -(-n_bytes // largest)
    return [min(largest, n_bytes - i * largest) for i in range(count)]
