"""Two cards with two queues each, every interleaving of post, doorbell, run, read and reset: no
descriptor is lost or executed twice, and none from before a reset reaches a later command."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from accel.errors import CardError
from accel.fpga import Card, Flag, Queue

SIZE = 64
PIECE = 16
CELLS = 2048
WHERE = st.tuples(st.integers(0, 1), st.integers(0, 1))


@dataclass
class Written:
    """One queue and what was asked of it: commands since the last reset, by id."""

    queue: Queue
    posted: list[int] = field(default_factory=list)
    rung: int = 0
    done: Counter[int] = field(default_factory=Counter)
    cells: dict[int, list[int]] = field(default_factory=dict)


class Side:
    """A card, its two queues, and the cells they copy: every cell is written by one descriptor."""

    def __init__(self, seed: int) -> None:
        self.card = Card("nfp6000", trace=False)
        self.queues = [Written(self.card.queue(SIZE)) for _ in range(2)]
        self.source = self.card.host.allocate(CELLS * PIECE)
        self.target = self.card.memory.allocate(CELLS * PIECE)
        values = np.random.default_rng(seed).integers(1, 256, CELLS * PIECE, dtype=np.uint8)
        self.card.host.write(self.source.address, values)
        self.next_cell = 0
        self.allowed: set[int] = set()

    def cell(self, index: int) -> tuple[bytes, bytes]:
        """What lies in a cell of the host and of the card."""
        start = index * PIECE
        return (
            self.card.host.view(self.source.address + start, PIECE).tobytes(),
            self.card.memory.view(self.target.address + start, PIECE).tobytes(),
        )


class Queues(RuleBasedStateMachine):
    """Cards are independent; queues of a card share its link and its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = [Side(1), Side(2)]

    def pick(self, where: tuple[int, int]) -> tuple[Side, Written]:
        side = self.sides[where[0]]
        return side, side.queues[where[1]]

    @rule(where=WHERE, pieces=st.integers(1, 4), count=st.integers(1, 20))
    def post(self, where: tuple[int, int], pieces: int, count: int) -> None:
        """Scatter/gather: a command is some pieces, the first and the last marked."""
        side, written = self.pick(where)
        for _ in range(count):
            if side.next_cell + pieces > CELLS:
                return
            queue = written.queue
            if queue.h2c.space < pieces or len(queue.outstanding) >= SIZE:
                return
            cid = queue.new_command()
            cells = list(range(side.next_cell, side.next_cell + pieces))
            side.next_cell += pieces
            for i, cell in enumerate(cells):
                flags = (Flag.FIRST if i == 0 else Flag(0)) | (
                    Flag.LAST if i == pieces - 1 else Flag(0)
                )
                queue.post(
                    "h2c", side.source.address + cell * PIECE, side.target.address + cell * PIECE,
                    PIECE, cid=cid, flags=flags,
                )  # fmt: skip
            written.posted.append(cid)
            written.cells[cid] = cells

    @rule(where=WHERE)
    def overfill(self, where: tuple[int, int]) -> None:
        """A ring without room refuses, and keeps what it holds."""
        side, written = self.pick(where)
        queue = written.queue
        if queue.h2c.space:
            return
        before = queue.h2c.entries.tobytes()
        try:
            queue.post("h2c", side.source.address, side.target.address, PIECE)
        except CardError:
            assert queue.h2c.entries.tobytes() == before
        else:
            raise AssertionError("a full ring took a descriptor")

    @rule(where=WHERE)
    def doorbell(self, where: tuple[int, int]) -> None:
        side, written = self.pick(where)
        written.queue.doorbell()
        for cid in written.posted[written.rung :]:
            side.allowed.update(written.cells[cid])
        written.rung = len(written.posted)

    @rule(where=WHERE, nanoseconds=st.integers(1, 4000))
    def run_a_while(self, where: tuple[int, int], nanoseconds: int) -> None:
        card = self.pick(where)[0].card
        card.run(card.now_ps + nanoseconds * 1000)

    @rule(where=WHERE)
    def read(self, where: tuple[int, int]) -> None:
        side, written = self.pick(where)
        for completion in written.queue.completions():
            assert completion.ok
            assert completion.generation == written.queue.generation
            written.done[completion.cid] += 1
            for cell in written.cells[completion.cid]:
                here, there = side.cell(cell)
                assert here == there
            assert completion.length == PIECE * len(written.cells[completion.cid])

    @rule(where=WHERE)
    def reset(self, where: tuple[int, int]) -> None:
        side = self.pick(where)[0]
        side.card.reset()
        for written in side.queues:
            written.posted, written.rung = [], 0
            written.done, written.cells = Counter(), {}

    @invariant()
    def every_command_ends_at_most_once(self) -> None:
        for side in self.sides:
            for written in side.queues:
                assert all(n == 1 for n in written.done.values())
                assert set(written.done) <= set(written.posted[: written.rung])
                assert written.queue.stale == 0

    @invariant()
    def nothing_is_copied_before_its_doorbell(self) -> None:
        for side in self.sides:
            moved = side.card.memory.view(side.target.address, side.next_cell * PIECE)
            touched = set(np.flatnonzero(moved.reshape(-1, PIECE).any(axis=1)).tolist())
            assert touched <= side.allowed

    def teardown(self) -> None:
        for card in (0, 1):
            for number in (0, 1):
                self.doorbell((card, number))
        for _ in range(4):
            for card in (0, 1):
                self.sides[card].card.run()
                for number in (0, 1):
                    self.read((card, number))
        for side in self.sides:
            for written in side.queues:
                assert set(written.done) == set(written.posted)
                assert not written.queue.outstanding


TestQueues = Queues.TestCase
TestQueues.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def test_cards_do_not_share_a_clock_or_a_memory() -> None:
    one, two = Card("alveo-u200"), Card("alveo-u200")
    one.run(1_000_000)
    assert (one.now_ps, two.now_ps) == (1_000_000, 0)
    a, b = one.memory.allocate(64), two.memory.allocate(64)
    assert a.address == b.address
    one.memory.write(a.address, b"x" * 64)
    assert not two.memory.view(b.address, 64).any()


def test_queues_of_a_card_share_its_link() -> None:
    """Two queues at once take longer than one, and less than one after the other."""

    def ends(n_queues: int, each: int) -> int:
        card = Card("alveo-u200", trace=False)
        a, b = card.host.allocate(1 << 20), card.memory.allocate(1 << 20)
        for queue in [card.queue() for _ in range(n_queues)]:
            for _ in range(each):
                queue.post("h2c", a.address, b.address, 1 << 20)
            queue.doorbell()
        card.run()
        return card.now_ps

    one, both, double = ends(1, 8), ends(2, 8), ends(1, 16)
    assert one < both <= 1.01 * double
