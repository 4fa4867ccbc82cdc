"""The DMA engine: fetches descriptors from rings and copies the bytes they name.

A descriptor is executed exactly once, in ring order; the copy happens at the simulated moment the
last byte arrives. A bad descriptor fails its own command and nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import simpy
from numpy.typing import NDArray

from accel.fpga.clock import Server, call_at, seconds_to_ps, transfer_ps
from accel.fpga.context import Command, Direction, QueueContext, RingContext
from accel.fpga.faults import Fault, Faults
from accel.fpga.link import Link
from accel.fpga.memory import Memory
from accel.fpga.profile import Profile
from accel.fpga.ring import (
    COMPLETION,
    DESCRIPTOR,
    INDEX_MASK,
    STATUS,
    Flag,
    Status,
    phase_of,
)
from accel.fpga.trace import Trace


@dataclass(frozen=True)
class DmaSpec:
    """`fetch_batch` descriptors are read at once; `burst` bytes pass before memory is written."""

    fetch_batch: int
    burst: int

    @classmethod
    def from_profile(cls, profile: Profile) -> DmaSpec:
        """Take the engine's numbers from a card profile."""
        return cls(int(profile.value("dma.fetch_batch")), int(profile.value("dma.burst")))


class Dma:
    """The engine. `start_program` is called with (queue, command) when a frame has arrived."""

    def __init__(
        self,
        env: simpy.Environment,
        spec: DmaSpec,
        host: Memory,
        memory: Memory,
        ports: dict[Direction, Server],
        port_bandwidth: float,
        link: Link,
        faults: Faults,
        trace: Trace,
    ) -> None:
        self.env = env
        self.spec = spec
        self.host = host
        self.memory = memory
        self.link = link
        self.faults = faults
        self.trace = trace
        self.start_program: Callable[[QueueContext, Command], None] | None = None
        self.counts: dict[str, int] = dict.fromkeys(
            ("doorbells", "bad_doorbells", "descriptors", "completions", "errors",
             "h2c_bytes", "c2h_bytes", "ecc_corrected"), 0,
        )  # fmt: skip
        self.firewalled = False
        self.alive = True
        self._ports = ports
        self._port_bandwidth = port_bandwidth
        self._epoch = 0

    def open(self, context: QueueContext) -> None:
        """Start serving the two descriptor rings of a queue."""
        for ring in (context.h2c, context.c2h):
            self.env.process(self._serve(context, ring))

    def reset(self) -> None:
        """Forget everything under way; queues must be opened again."""
        self._epoch += 1
        self.firewalled = False
        self.alive = True

    def die(self) -> None:
        """Stop at once, as on a fatal link error: nothing under way ends."""
        self._epoch += 1
        self.alive = False

    def abort(self, context: QueueContext, cid: int, generation: int) -> bool:
        """Drop a command whose program is not running; tell whether that was possible."""
        if not self.alive:
            return False
        command = context.command(generation, cid)
        if command.running:
            return False
        command.aborted = True
        context.end(command)
        return True

    def doorbell(self, ring: RingContext, pidx: int) -> None:
        """Take a new producer index; one that runs past the ring is refused and counted."""
        if not self.alive:
            return
        if self.faults.fires(Fault.LINK_FATAL):
            self.die()
            return
        self.counts["doorbells"] += 1
        if (pidx - ring.cidx) & INDEX_MASK > ring.size:
            self.counts["bad_doorbells"] += 1
            return
        ring.pidx = pidx
        if ring.wake is not None and not ring.wake.triggered:
            ring.wake.succeed()

    def completions_read(self, context: QueueContext, cidx: int) -> None:
        """Take the software's index in the completion ring, and send what waited for room."""
        context.completion_cidx = cidx
        while context.blocked and self._has_room(context):
            context.blocked.popleft()()

    def program_done(self, context: QueueContext, command: Command, status: Status) -> None:
        """Take note that a command's program has run; its parked copies start now."""
        command.ran = True
        if command.over:
            self._complete(context, command)
            return
        if status is not Status.OK:
            self._fail(context, command, status)
            return
        parked, command.parked = command.parked, []
        for descriptor in parked:
            self._copy_c2h(context, command, descriptor)

    def _serve(self, context: QueueContext, ring: RingContext) -> Any:
        epoch = self._epoch
        while epoch == self._epoch:
            if ring.pending == 0:
                ring.wake = self.env.event()
                yield ring.wake
                continue
            count = min(ring.pending, self.spec.fetch_batch)
            fetched = self.link.read(count * DESCRIPTOR.itemsize, "fetch")
            yield self.env.timeout(fetched - int(self.env.now))
            if epoch != self._epoch:
                return
            for descriptor in self._take(ring, count):
                self._execute(context, ring.direction, descriptor)
            self._write_status(ring)

    def _take(self, ring: RingContext, count: int) -> list[Any]:
        """Copy `count` descriptors out of host memory and advance `cidx`."""
        size = DESCRIPTOR.itemsize
        taken = []
        for _ in range(count):
            slot = ring.cidx & (ring.size - 1)
            raw = self.host.view(ring.base + slot * size, size)
            taken.append(raw.copy().view(DESCRIPTOR)[0])
            ring.cidx = (ring.cidx + 1) & INDEX_MASK
        return taken

    def _write_status(self, ring: RingContext) -> None:
        """Report how far the ring has been read, in its status entry."""
        epoch, cidx, pidx = self._epoch, ring.cidx, ring.pidx
        address = ring.base + ring.size * DESCRIPTOR.itemsize

        def write() -> None:
            if epoch == self._epoch:
                entry = self.host.view(address, STATUS.itemsize).view(STATUS)
                entry[0] = (pidx, cidx, 0)

        call_at(self.env, self.link.write(STATUS.itemsize, "status"), write)

    def _execute(self, context: QueueContext, direction: Direction, descriptor: Any) -> None:
        self.counts["descriptors"] += 1
        command = context.command(int(descriptor["generation"]), int(descriptor["cid"]))
        context.fetched += 1
        if command.over:
            return  # the rest of a command that failed or was aborted
        status = self._check(direction, descriptor)
        if status is not Status.OK:
            self._fail(context, command, status)
        elif direction == "h2c":
            self._copy_h2c(context, command, descriptor)
        elif int(descriptor["flags"]) & Flag.AFTER and not command.ran:
            command.parked.append(descriptor)
        else:
            self._copy_c2h(context, command, descriptor)

    def _check(self, direction: Direction, descriptor: Any) -> Status:
        length = int(descriptor["length"])
        source, destination = (
            (self.host, self.memory) if direction == "h2c" else (self.memory, self.host)
        )
        inside = source.contains(int(descriptor["source"]), length) and destination.contains(
            int(descriptor["destination"]), length
        )
        if self.firewalled or self.faults.fires(Fault.FIREWALL):
            self.firewalled = True
            return Status.FIREWALL
        if length == 0 or not inside or self.faults.fires(Fault.DESCRIPTOR_ERROR):
            return Status.DESCRIPTOR_ERROR
        if direction == "h2c" and self.faults.fires(Fault.LINK_TIMEOUT):
            return Status.LINK_ERROR
        return Status.OK

    def _copy_h2c(self, context: QueueContext, command: Command, descriptor: Any) -> None:
        length, epoch = int(descriptor["length"]), self._epoch
        data = self.link.read(length, "h2c")
        if self.faults.fires(Fault.SLOW_HOST):
            data += seconds_to_ps(self.faults.delay(Fault.SLOW_HOST))
        stored = self._ports["h2c"].reserve(self._port_ps(length), "h2c", data)

        def land() -> None:
            if epoch != self._epoch or command.over:
                return
            source = self.host.view(int(descriptor["source"]), length)
            target = self.memory.view(int(descriptor["destination"]), length)
            target[:] = source
            self._flip(target)
            self.counts["h2c_bytes"] += length
            if _checked(descriptor) and zlib.crc32(target.data) != int(descriptor["checksum"]):
                self._fail(context, command, Status.LINK_ERROR)
            else:
                self._arrived(context, command, descriptor)

        call_at(self.env, stored, land)

    def _arrived(self, context: QueueContext, command: Command, descriptor: Any) -> None:
        flags = int(descriptor["flags"])
        command.n_bytes += int(descriptor["length"])
        if flags & Flag.FIRST:
            command.frame = int(descriptor["destination"])
        if not flags & Flag.LAST:
            return
        flow = context.flow(command.cid, command.generation)
        self.trace.flow(flow, self._ports["h2c"].name, int(self.env.now))
        command.program = int(descriptor["program"])
        if not flags & Flag.RUN:
            self._complete(context, command)
        elif self.start_program is None:
            self._fail(context, command, Status.PROGRAM_ERROR)
        else:
            command.started = True
            self.start_program(context, command)

    def _copy_c2h(self, context: QueueContext, command: Command, descriptor: Any) -> None:
        length, epoch = int(descriptor["length"]), self._epoch
        loaded = self._ports["c2h"].reserve(self._port_ps(length), "c2h")

        def send() -> None:
            if epoch == self._epoch:
                call_at(self.env, self.link.write(length, "c2h"), land)

        def land() -> None:
            if epoch != self._epoch or command.over:
                return
            source = self.memory.view(int(descriptor["source"]), length)
            target = self.host.view(int(descriptor["destination"]), length)
            target[:] = source
            if _checked(descriptor):
                command.checksum = zlib.crc32(source.data, command.checksum)
            self._flip(target)
            self.counts["c2h_bytes"] += length
            command.n_bytes += length
            if int(descriptor["flags"]) & Flag.LAST:
                flow = context.flow(command.cid, command.generation)
                self.trace.flow(flow, self._ports["c2h"].name, int(self.env.now))
                self._complete(context, command)

        call_at(self.env, loaded, send)

    def _port_ps(self, length: int) -> int:
        """Time of the memory port that the link does not hide: one burst."""
        return transfer_ps(min(length, self.spec.burst), self._port_bandwidth)

    def _flip(self, target: NDArray[Any]) -> None:
        self.counts["ecc_corrected"] += self.faults.fires(Fault.ECC_CORRECTED)
        if self.faults.fires(Fault.PAYLOAD_FLIPPED):
            bit = self.faults.pick(Fault.PAYLOAD_FLIPPED, target.size * 8)
            target[bit // 8] ^= 1 << (bit % 8)

    def _fail(self, context: QueueContext, command: Command, status: Status) -> None:
        """End a command with an error, but not before the engine has let go of its frame."""
        self.counts["errors"] += 1
        command.status = status
        if not command.running:
            self._complete(context, command)

    def _complete(self, context: QueueContext, command: Command) -> None:
        context.end(command)
        if self.faults.fires(Fault.COMPLETION_LOST):
            return
        delay = max(self._delay(Fault.COMPLETION_REORDERED), self._delay(Fault.COMPLETION_LATE))
        epoch = self._epoch
        if delay:
            later = int(self.env.now) + delay
            call_at(self.env, later, lambda: self._send_or_wait(context, command, epoch))
        else:
            self._send_or_wait(context, command, epoch)
        if self.faults.fires(Fault.COMPLETION_DUPLICATED):
            self._send_or_wait(context, command, epoch)

    def _delay(self, kind: Fault) -> int:
        return seconds_to_ps(self.faults.delay(kind)) if self.faults.fires(kind) else 0

    def _send_or_wait(self, context: QueueContext, command: Command, epoch: int) -> None:
        if epoch != self._epoch:
            return
        if self._has_room(context):
            self._send(context, command)
        else:
            context.blocked.append(lambda: self._send(context, command))

    def _has_room(self, context: QueueContext) -> bool:
        used = (context.completion_pidx - context.completion_cidx) & INDEX_MASK
        return used < context.completion_size

    def _send(self, context: QueueContext, command: Command) -> None:
        """Write one completion entry; its slot and phase are fixed when it is sent.

        A stale one is a write that was in the fabric when the card was reset: it still lands.
        """
        index = context.completion_pidx
        context.completion_pidx = (index + 1) & INDEX_MASK
        size = COMPLETION.itemsize
        address = context.completion_base + (index & (context.completion_size - 1)) * size
        status = int(command.status) << 1 | phase_of(index, context.completion_size)
        epoch = self._epoch
        held = self._delay(Fault.COMPLETION_STALE)

        def write() -> None:
            if (epoch != self._epoch and not held) or not self.host.contains(address, size):
                return
            entry = self.host.view(address, size).view(COMPLETION)
            entry[0] = (
                command.cid, command.generation, 0, status, command.n_bytes, command.checksum,
            )  # fmt: skip
            self.counts["completions"] += 1
            self.trace.moment(f"queue {context.qid}", "completion", int(self.env.now))
            context.on_completion()

        call_at(self.env, self.link.write(size, "completion") + held, write)


def _checked(descriptor: Any) -> bool:
    return bool(int(descriptor["flags"]) & Flag.CHECK)
