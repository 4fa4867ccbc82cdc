"""The DMA engine: fetches descriptors from rings and copies the bytes they name.

A descriptor is executed exactly once, in ring order; the copy happens at the simulated moment the
last byte arrives. A bad descriptor fails its own command and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from accel.fpga.clock import Clock, Server, seconds_to_ps, transfer_ps
from accel.fpga.completer import Completer
from accel.fpga.context import Command, Direction, QueueContext, RingContext
from accel.fpga.faults import Fault, Faults
from accel.fpga.link import Link
from accel.fpga.memory import Memory
from accel.fpga.payload import Payload
from accel.fpga.profile import Profile
from accel.fpga.ring import (
    DESCRIPTOR_BYTES,
    INDEX_MASK,
    OK,
    PACKED_DESCRIPTOR,
    PACKED_STATUS,
    STATUS_BYTES,
    Descriptor,
    Flag,
    Status,
)
from accel.fpga.trace import Trace

FIRST, LAST, RUN, AFTER, _ = (int(flag) for flag in Flag)


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
        env: Clock,
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
        self.completer = Completer(env, host, link, faults, trace, self.counts)
        self._payload = Payload(faults, self.counts)
        self.firewalled = False
        self.alive = True
        self._ports = ports
        self._port_ps = cache(lambda n_bytes: transfer_ps(min(n_bytes, spec.burst), port_bandwidth))
        self._epoch = 0

    def reset(self) -> None:
        """Forget everything under way."""
        self._next_epoch()
        self.firewalled = False
        self.alive = True

    def die(self) -> None:
        """Stop at once, as on a fatal link error: nothing under way ends."""
        self._next_epoch()
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
        if self.faults.armed and self.faults.fires(Fault.LINK_FATAL):
            self.die()
            return
        self.counts["doorbells"] += 1
        if (pidx - ring.cidx) & INDEX_MASK > ring.size:
            self.counts["bad_doorbells"] += 1
            return
        ring.pidx = pidx
        self._fetch(ring)

    def program_done(self, context: QueueContext, command: Command, status: Status) -> None:
        """Take note that a command's program has run; its parked copies start now."""
        command.ran = True
        if command.over:
            self.completer.complete(context, command)
            return
        if status is not OK:
            self._fail(context, command, status)
            return
        parked, command.parked = command.parked, []
        for descriptor in parked:
            self._copy_c2h(context, command, descriptor)

    def _next_epoch(self) -> None:
        self._epoch += 1
        self.completer.epoch = self._epoch

    def _fetch(self, ring: RingContext) -> None:
        """Read the next descriptors from host memory, unless a read of this ring is under way."""
        if ring.fetching or (pending := ring.pending) == 0:
            return
        ring.fetching = True
        epoch, count = self._epoch, min(pending, self.spec.fetch_batch)

        def fetched() -> None:
            if epoch != self._epoch:
                return
            for descriptor in self._take(ring, count):
                self._execute(ring.queue, ring.direction, descriptor)
            self._write_status(ring)
            ring.fetching = False
            self._fetch(ring)

        self.env.call_at(self.link.read(count * DESCRIPTOR_BYTES, "fetch"), fetched)

    def _take(self, ring: RingContext, count: int) -> list[Descriptor]:
        """Copy `count` descriptors out of host memory and advance `cidx`."""
        raw, first, mask = ring.raw, ring.cidx, ring.size - 1
        ring.cidx = (first + count) & INDEX_MASK
        return [
            Descriptor._make(PACKED_DESCRIPTOR.unpack_from(raw, (at & mask) * DESCRIPTOR_BYTES))
            for at in range(first, first + count)
        ]

    def _write_status(self, ring: RingContext) -> None:
        """Report how far the ring has been read, in its status entry."""
        epoch, cidx, pidx = self._epoch, ring.cidx, ring.pidx

        def write() -> None:
            if epoch == self._epoch:
                behind = ring.size * DESCRIPTOR_BYTES
                PACKED_STATUS.pack_into(ring.raw, behind, pidx, cidx, 0)

        self.env.call_at(self.link.write(STATUS_BYTES, "status"), write)

    def _execute(self, context: QueueContext, direction: Direction, descriptor: Descriptor) -> None:
        self.counts["descriptors"] += 1
        command = context.command(descriptor.generation, descriptor.cid)
        context.fetched += 1
        if command.over:
            return  # the rest of a command that failed or was aborted
        status = self._check(direction, descriptor)
        if status is not OK:
            self._fail(context, command, status)
        elif direction == "h2c":
            self._copy_h2c(context, command, descriptor)
        elif descriptor.flags & AFTER and not command.ran:
            command.parked.append(descriptor)
        else:
            self._copy_c2h(context, command, descriptor)

    def _check(self, direction: Direction, descriptor: Descriptor) -> Status:
        source, length, _, _, destination, _, _, _ = descriptor
        here, there = self.host, self.memory
        if direction == "c2h":
            here, there = there, here
        inside = here.contains(source, length) and there.contains(destination, length)
        if inside and length and not (self.faults.armed or self.firewalled):
            return OK
        if self.firewalled or self.faults.fires(Fault.FIREWALL):
            self.firewalled = True
            return Status.FIREWALL
        if length == 0 or not inside or self.faults.fires(Fault.DESCRIPTOR_ERROR):
            return Status.DESCRIPTOR_ERROR
        if direction == "h2c" and self.faults.fires(Fault.LINK_TIMEOUT):
            return Status.LINK_ERROR
        return OK

    def _copy_h2c(self, context: QueueContext, command: Command, descriptor: Descriptor) -> None:
        length, epoch = descriptor.length, self._epoch
        data = self.link.read(length, "h2c")
        if self.faults.armed and self.faults.fires(Fault.SLOW_HOST):
            data += seconds_to_ps(self.faults.delay(Fault.SLOW_HOST))
        stored = self._through("h2c", context, command, descriptor, data)

        def land() -> None:
            if epoch != self._epoch or command.over:
                return
            self.counts["h2c_bytes"] += length
            checksum = self._payload.move(self.host, self.memory, descriptor, check_target=True)
            if checksum is not None and checksum != descriptor.checksum:
                self._fail(context, command, Status.LINK_ERROR)
            else:
                self._arrived(context, command, descriptor)

        self.env.call_at(stored, land)

    def _arrived(self, context: QueueContext, command: Command, descriptor: Descriptor) -> None:
        flags = descriptor.flags
        command.n_bytes += descriptor.length
        if flags & FIRST:
            command.frame = descriptor.destination
        if not flags & LAST:
            return
        command.program = descriptor.program
        if not flags & RUN:
            self.completer.complete(context, command)
        elif self.start_program is None:
            self._fail(context, command, Status.PROGRAM_ERROR)
        else:
            command.started = True
            self.start_program(context, command)

    def _copy_c2h(self, context: QueueContext, command: Command, descriptor: Descriptor) -> None:
        length, epoch = descriptor.length, self._epoch
        loaded = self._through("c2h", context, command, descriptor)

        def send() -> None:
            if epoch == self._epoch:
                self.env.call_at(self.link.write(length, "c2h"), land)

        def land() -> None:
            if epoch != self._epoch or command.over:
                return
            checksum = self._payload.move(self.memory, self.host, descriptor, command.checksum)
            if checksum is not None:
                command.checksum = checksum
            self.counts["c2h_bytes"] += length
            command.n_bytes += length
            if descriptor.flags & LAST:
                self.completer.complete(context, command)

        self.env.call_at(loaded, send)

    def _through(
        self,
        direction: Direction,
        context: QueueContext,
        command: Command,
        descriptor: Descriptor,
        earliest_ps: int = 0,
    ) -> int:
        """Take the bytes through a port of the memory; return when the last has passed.

        The link hides all of that time but one burst's.
        """
        port, duration = self._ports[direction], self._port_ps(descriptor.length)
        end = port.reserve(duration, direction, earliest_ps)
        if self.trace.enabled and descriptor.flags & LAST:
            flow = context.flow(command.cid, command.generation)
            self.trace.flow(flow, port.name, end - duration)
        return end

    def _fail(self, context: QueueContext, command: Command, status: Status) -> None:
        """End a command with an error, but not before the engine has let go of its frame."""
        self.counts["errors"] += 1
        command.status = status
        if not command.running:
            self.completer.complete(context, command)
