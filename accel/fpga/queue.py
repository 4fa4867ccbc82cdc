"""A queue: the software's handle on two descriptor rings, a completion ring and their doorbells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from accel.errors import CardError, InputError
from accel.fpga.context import QueueContext, RingContext
from accel.fpga.faults import Fault
from accel.fpga.memory import Memory
from accel.fpga.ring import INDEX_MASK, Completion, CompletionRing, DescriptorRing, Flag

if TYPE_CHECKING:
    from accel.fpga.card import Card

MAX_LENGTH = 2**28 - 1
WHOLE = Flag.FIRST | Flag.LAST


class Queue:
    """Post descriptors, ring the doorbell, run the card, read completions.

    A command is one or more descriptors with the same id; it ends with one completion. Made by
    `Card.queue`; after a card reset all commands are gone and the id's generation has changed.
    """

    def __init__(self, card: Card, qid: int, ring_size: int) -> None:
        self._card = card
        self.qid = qid
        self.ring_size = ring_size
        self.generation = 0
        self.stale = 0
        self.outstanding: set[int] = set()
        self._next_cid = 0
        self._open()

    def _open(self) -> None:
        host = self._card.host
        self.h2c = DescriptorRing(host, self.ring_size)
        self.c2h = DescriptorRing(host, self.ring_size)
        self.done = CompletionRing(host, self.ring_size)
        self.context = QueueContext(self.qid, self.h2c, self.c2h, self.done)

    def new_command(self) -> int:
        """Return a 16-bit command id that no unfinished command uses."""
        if len(self.outstanding) >= self.ring_size:
            raise CardError(
                f"queue {self.qid}: {len(self.outstanding)} commands are unfinished, the ring "
                f"holds {self.ring_size}; read completions first"
            )
        while self._next_cid in self.outstanding:
            self._next_cid = (self._next_cid + 1) & INDEX_MASK
        cid, self._next_cid = self._next_cid, (self._next_cid + 1) & INDEX_MASK
        self.outstanding.add(cid)
        return cid

    def post(
        self,
        direction: Literal["h2c", "c2h"],
        source: int,
        destination: int,
        length: int,
        *,
        cid: int | None = None,
        flags: Flag = WHOLE,
        program: int = 0,
        checksum: int = 0,
    ) -> int:
        """Write one descriptor and return its command id; the card sees it at the doorbell.

        Parameters
        ----------
        direction : "h2c" (host to card) or "c2h"
        source, destination : addresses of the first byte
        length : bytes, 1 … 2**28 - 1
        cid : id of a command begun before; None begins a new one
        flags : `Flag`; as default the descriptor is a whole command
        program : slot of the network to run, with `Flag.RUN`
        checksum : CRC-32 of the bytes of an h2c descriptor, with `Flag.CHECK`

        Raises
        ------
        InputError
            Unknown direction, a length outside the range, or bytes outside a buffer.
        CardError
            The ring is full, or too many commands are unfinished.
        """
        self._check(direction, source, destination, length)
        ring = self.h2c if direction == "h2c" else self.c2h
        if ring.full:
            raise CardError(
                f"queue {self.qid}: {direction} ring of {ring.size} descriptors is full; "
                f"ring the doorbell and let the card run"
            )
        cid = self.new_command() if cid is None else cid
        ring.push(source, destination, length, flags, cid, self.generation, program, checksum)
        return cid

    def doorbell(self, again: bool = False) -> None:
        """Tell the card how far both rings are filled, with one register write each.

        A ring that has not grown since its last doorbell is skipped, unless `again`.
        """
        for ring, context in ((self.h2c, self.context.h2c), (self.c2h, self.context.c2h)):
            if again or ring.pidx != ring.rung:
                ring.rung = ring.pidx
                self._ring(context, ring.pidx)

    def completions(self) -> list[Completion]:
        """Take the new completions; those of no unfinished command are counted in `stale`."""
        taken = []
        done, outstanding = self.done, self.outstanding
        before = done.cidx
        while (entry := done.pop(self.generation)) is not None:
            if entry.cid in outstanding:
                outstanding.remove(entry.cid)
                taken.append(entry)
            else:
                self.stale += 1
        if done.cidx != before:
            self._return_slots()
        return taken

    def forget(self, cid: int) -> None:
        """Give up a command: a completion that still comes for it will be stale."""
        self.outstanding.discard(cid)

    def reopen(self) -> None:
        """Start again with empty rings under a new generation, as after a card reset."""
        host = self._card.host
        for ring in (self.h2c, self.c2h, self.done):
            host.free(ring.buffer)
        self.generation = (self.generation + 1) & INDEX_MASK
        self.outstanding.clear()
        self._open()

    def _ring(self, context: RingContext, pidx: int) -> None:
        card, dma, faults = self._card, self._card.dma, self._card.faults
        if faults.armed:
            if faults.fires(Fault.REMOVAL):
                card.remove(faults.delay(Fault.REMOVAL))
            if faults.fires(Fault.DOORBELL_LOST):
                return
            if faults.fires(Fault.DOORBELL_OVERRUN):
                pidx = (pidx + 2 * context.size) & INDEX_MASK
        card.env.call_at(card.link.register_write(), lambda: dma.doorbell(context, pidx))

    def _return_slots(self) -> None:
        card, cidx, context = self._card, self.done.cidx, self.context
        completer = card.dma.completer
        card.env.call_at(card.link.register_write(), lambda: completer.read(context, cidx))

    def _check(self, direction: str, source: int, destination: int, length: int) -> None:
        if direction not in ("h2c", "c2h"):
            raise InputError(f"direction is {direction!r}; expected 'h2c' or 'c2h'")
        if not 1 <= length <= MAX_LENGTH:
            raise InputError(f"length is {length} bytes; expected 1 to {MAX_LENGTH}")
        card = self._card
        here, there = card.host, card.memory
        if direction == "c2h":
            here, there = there, here
        if not here.contains(source, length):
            raise self._outside(here, source, length)
        if not there.contains(destination, length):
            raise self._outside(there, destination, length)

    @staticmethod
    def _outside(memory: Memory, address: int, length: int) -> InputError:
        return InputError(
            f"{memory.name}: {length} bytes at {address:#x} are not inside one buffer; "
            f"allocate them first"
        )
