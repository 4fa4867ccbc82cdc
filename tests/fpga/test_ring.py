"""Rings: sizes of the real structures, indices, phase; no descriptor is lost or doubled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from accel.errors import CardError, InputError
from accel.fpga import Card, Flag
from accel.fpga.memory import Memory
from accel.fpga.ring import (
    COMPLETION,
    DESCRIPTOR,
    STATUS,
    CompletionRing,
    DescriptorRing,
    phase_of,
)

SIZE = 64
PIECE = 16


def test_structures_have_the_sizes_of_the_hardware() -> None:
    assert (DESCRIPTOR.itemsize, COMPLETION.itemsize, STATUS.itemsize) == (32, 16, 8)


@pytest.mark.parametrize("size", [0, -64, 1, 32, 63, 100, 16383, 32768, 64.0, "64"])
def test_ring_size_that_is_no_power_of_two_in_range_is_refused(size: Any) -> None:
    with pytest.raises(InputError, match="power of two from 64 to 16384"):
        DescriptorRing(Memory("host", 1 << 24), size)
    with pytest.raises(InputError, match="power of two"):
        Card("alveo-u200").queue(ring_size=size)


def test_descriptor_is_stored_as_little_endian_bytes() -> None:
    host = Memory("host", 1 << 24)
    ring = DescriptorRing(host, SIZE)
    ring.push(0x1122334455667788, 0x99AA, 0x10, Flag.FIRST | Flag.LAST, 0xBEEF, 7, 2, 0xCAFE)
    assert host.view(ring.buffer.address, 32).tobytes().hex() == (
        "8877665544332211" "10000000" "0300" "efbe" "aa99000000000000" "0700" "0200" "feca0000"
    )  # fmt: skip


def test_full_ring_refuses_and_keeps_what_it_holds() -> None:
    ring = DescriptorRing(Memory("host", 1 << 24), SIZE)
    for i in range(SIZE):
        ring.push(i, 0, 1, Flag.FIRST, i, 0)
    with pytest.raises(CardError, match="ring of 64 descriptors is full"):
        ring.push(99, 0, 1, Flag.FIRST, 99, 0)
    assert ring.entries["source"].tolist() == list(range(SIZE))


def test_phase_flips_at_every_lap_and_through_the_wrap_of_the_index() -> None:
    laps = [phase_of(i & 0xFFFF, SIZE) for i in range(0, 2**16 + 4 * SIZE, SIZE)]
    assert laps == [1 - (i % 2) for i in range(len(laps))]


def test_completion_of_another_generation_is_left_in_its_slot() -> None:
    ring = CompletionRing(Memory("host", 1 << 24), SIZE)
    ring.entries[0] = (5, 0, 0, 1, 64, 0)
    assert ring.pop(generation=1) is None
    assert ring.cidx == 0
    ring.entries[0] = (6, 1, 0, 1, 64, 0)
    entry = ring.pop(generation=1)
    assert entry is not None
    assert (entry.cid, entry.ok, entry.length) == (6, True, 64)
    assert ring.pop(generation=1) is None


class RingMachine(RuleBasedStateMachine):
    """Post, ring, run and read in any order; compare with a list of what was posted."""

    def __init__(self) -> None:
        super().__init__()
        self.card = Card("nfp6000", trace=False)
        self.queue = self.card.queue(SIZE)
        n_bytes = 4096 * PIECE
        self.source = self.card.host.allocate(n_bytes)
        self.target = self.card.memory.allocate(n_bytes)
        values = np.random.default_rng(1).integers(1, 256, n_bytes, dtype=np.uint8)
        self.card.host.write(self.source.address, values)
        self.posted: list[int] = []
        self.rung = 0
        self.seen: list[int] = []

    @precondition(lambda self: len(self.posted) < 4000)
    @rule(count=st.integers(1, 80))
    def post(self, count: int) -> None:
        for _ in range(count):
            start = len(self.posted) * PIECE
            room = self.queue.h2c.space > 0 and len(self.queue.outstanding) < SIZE
            try:
                cid = self.queue.post(
                    "h2c", self.source.address + start, self.target.address + start, PIECE
                )
            except CardError:
                assert not room
                return
            assert room
            self.posted.append(cid)

    @rule()
    def doorbell(self) -> None:
        self.queue.doorbell()
        self.rung = len(self.posted)

    @rule(nanoseconds=st.integers(1, 3000))
    def run_a_while(self, nanoseconds: int) -> None:
        self.card.run(self.card.now_ps + nanoseconds * 1000)

    @rule()
    def run_dry(self) -> None:
        self.card.run()
        assert self.card.dma.counts["descriptors"] == self.rung

    @rule()
    def read(self) -> None:
        self.seen += [c.cid for c in self.queue.completions()]

    @invariant()
    def completions_come_in_order_and_once(self) -> None:
        assert self.seen == self.posted[: len(self.seen)]
        assert self.queue.stale == 0

    @invariant()
    def nothing_runs_before_its_doorbell(self) -> None:
        assert self.card.dma.counts["descriptors"] <= self.rung
        beyond = self.target.address + self.rung * PIECE
        assert not self.card.memory.view(beyond, self.target.end - beyond).any()

    def teardown(self) -> None:
        self.doorbell()
        for _ in range(3):
            self.card.run()
            self.read()
        assert self.seen == self.posted
        n_bytes = len(self.posted) * PIECE
        moved = self.card.memory.view(self.target.address, n_bytes)
        assert np.array_equal(moved, self.card.host.view(self.source.address, n_bytes))


TestRings = RingMachine.TestCase
TestRings.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_indices_survive_their_own_wrap() -> None:
    card = Card("nfp6000", trace=False)
    queue = card.queue(SIZE)
    a, b = card.host.allocate(8), card.memory.allocate(8)
    total = 0
    while total < 2**16 + 500:
        for _ in range(SIZE):
            queue.post("h2c", a.address, b.address, 8)
        queue.doorbell()
        card.run()
        done = queue.completions()
        assert [c.ok for c in done] == [True] * SIZE
        total += len(done)
    assert card.dma.counts["h2c_bytes"] == 8 * total
