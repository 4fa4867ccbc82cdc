"""What the card itself knows of its queues: where the rings lie, how far it has come, and which
commands are alive. The software side of the same things is in `queue.py` and `ring.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from accel.fpga.ring import INDEX_MASK, OK, CompletionRing, Descriptor, DescriptorRing, Status

Direction = Literal["h2c", "c2h"]


@dataclass(slots=True)
class RingContext:
    """What the card knows of a descriptor ring: where it lies and how far it has come."""

    queue: QueueContext
    direction: Direction
    raw: memoryview
    size: int
    pidx: int = 0
    cidx: int = 0
    fetching: bool = False

    @property
    def pending(self) -> int:
        """Descriptors announced by the doorbell and not fetched yet."""
        return (self.pidx - self.cidx) & INDEX_MASK


@dataclass(slots=True)
class Command:
    """One command in the card: its id, its outcome so far, and what waits for its program."""

    cid: int
    generation: int
    frame: int = 0
    program: int = 0
    n_bytes: int = 0
    checksum: int = 0
    status: Status = Status.OK
    completed: bool = False
    started: bool = False
    aborted: bool = False
    ran: bool = False
    ended_at: int = 0
    parked: list[Descriptor] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether nothing more may be copied for it."""
        return self.completed or self.status is not OK

    @property
    def running(self) -> bool:
        """Whether an engine still owns its frame."""
        return self.started and not self.ran


class QueueContext:
    """The card's side of a queue: two descriptor rings, one completion ring, live commands."""

    def __init__(
        self, qid: int, h2c: DescriptorRing, c2h: DescriptorRing, done: CompletionRing
    ) -> None:
        self.qid = qid
        self.track = f"queue {qid}"
        self.h2c = RingContext(self, "h2c", h2c.raw, h2c.size)
        self.c2h = RingContext(self, "c2h", c2h.raw, c2h.size)
        self.completion_base = done.buffer.address
        self.completion_raw = done.raw
        self.completion_size = done.size
        self.completion_pidx = 0
        self.completion_cidx = 0
        self.blocked: deque[Callable[[], None]] = deque()
        self.fetched = 0
        self.commands: dict[tuple[int, int], Command] = {}
        self.on_completion: Callable[[], None] = lambda: None

    def command(self, generation: int, cid: int) -> Command:
        """Return the command with this id, starting it if it is new.

        A failed or aborted command is remembered while descriptors of it may still be in the
        rings, so that none of them is executed; after that its id is free again.
        """
        command = self.commands.get((generation, cid))
        if command is None or (
            command.completed and self.fetched - command.ended_at > 2 * self.h2c.size
        ):
            command = self.commands[generation, cid] = Command(cid, generation)
        return command

    def flow(self, cid: int, generation: int) -> int:
        """Return the name of a command's arrow in the trace."""
        return self.qid << 32 | generation << 16 | cid

    def end(self, command: Command) -> None:
        """Mark a command as ended; a good one has no descriptors left and is forgotten."""
        command.completed = True
        command.ended_at = self.fetched
        if command.status is OK and not command.aborted:
            self.commands.pop((command.generation, command.cid), None)
