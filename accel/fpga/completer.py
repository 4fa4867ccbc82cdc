"""The end of a command: its completion entry, written once there is room for it in the ring."""

from __future__ import annotations

from accel.fpga.clock import Clock, seconds_to_ps
from accel.fpga.context import Command, QueueContext
from accel.fpga.faults import Fault, Faults
from accel.fpga.link import Link
from accel.fpga.memory import Memory
from accel.fpga.ring import COMPLETION_BYTES, INDEX_MASK, PACKED_COMPLETION, phase_of
from accel.fpga.trace import Trace


class Completer:
    """Writes completion entries into the rings of host memory.

    Attributes
    ----------
    counts : `completions` written
    epoch : one more after every reset; what an earlier one had under way does not land
    """

    def __init__(
        self,
        env: Clock,
        host: Memory,
        link: Link,
        faults: Faults,
        trace: Trace,
        counts: dict[str, int],
    ) -> None:
        self.env = env
        self.host = host
        self.link = link
        self.faults = faults
        self.trace = trace
        self.counts = counts
        self.epoch = 0

    def complete(self, context: QueueContext, command: Command) -> None:
        """End a command and announce it, unless its completion is lost, late or doubled."""
        context.end(command)
        epoch, fires = self.epoch, self.faults.fires
        if not self.faults.armed:
            self._send_or_wait(context, command, epoch)
            return
        if fires(Fault.COMPLETION_LOST):
            return
        delay = max(self._delay(Fault.COMPLETION_REORDERED), self._delay(Fault.COMPLETION_LATE))
        if delay:
            later = self.env.now + delay
            self.env.call_at(later, lambda: self._send_or_wait(context, command, epoch))
        else:
            self._send_or_wait(context, command, epoch)
        if fires(Fault.COMPLETION_DUPLICATED):
            self._send_or_wait(context, command, epoch)

    def read(self, context: QueueContext, cidx: int) -> None:
        """Take the software's index in the completion ring, and send what waited for room."""
        context.completion_cidx = cidx
        while context.blocked and self._has_room(context):
            context.blocked.popleft()()

    def _delay(self, kind: Fault) -> int:
        return seconds_to_ps(self.faults.delay(kind)) if self.faults.fires(kind) else 0

    def _send_or_wait(self, context: QueueContext, command: Command, epoch: int) -> None:
        if epoch != self.epoch:
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
        offset = (index & (context.completion_size - 1)) * COMPLETION_BYTES
        status = command.status << 1 | phase_of(index, context.completion_size)
        epoch = self.epoch
        held = self._delay(Fault.COMPLETION_STALE) if self.faults.armed else 0

        def write() -> None:
            raw = context.completion_raw
            if epoch != self.epoch:
                address = context.completion_base
                if not held or not self.host.contains(address, len(raw)):
                    return
                raw = self.host.view(address, len(raw)).data  # the ring that is there now
            PACKED_COMPLETION.pack_into(
                raw, offset,
                command.cid, command.generation, 0, status, command.n_bytes, command.checksum,
            )  # fmt: skip
            self.counts["completions"] += 1
            if self.trace.enabled:
                self.trace.moment(context.track, "completion", self.env.now)
            context.on_completion()

        self.env.call_at(self.link.write(COMPLETION_BYTES, "completion") + held, write)
