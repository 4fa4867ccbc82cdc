"""Memory: real bytes at addresses, checked bounds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import CardError, InputError
from accel.fpga.memory import POISON, Buffer, Memory


def test_write_then_view_gives_the_same_bytes() -> None:
    memory = Memory("m", 1 << 20)
    buffer = memory.allocate(100)
    memory.write(buffer.address + 4, np.arange(6, dtype="<u2"))
    assert (
        memory.view(buffer.address, 20).tolist()
        == [0] * 4 + [b for i in range(6) for b in (i, 0)] + [0] * 4
    )


@pytest.mark.parametrize(("offset", "n_bytes"), [(-1, 1), (0, 101), (100, 1), (50, 51), (0, -1)])
def test_access_outside_a_buffer_is_refused(offset: int, n_bytes: int) -> None:
    memory = Memory("m", 1 << 20)
    buffer = memory.allocate(100)
    assert not memory.contains(buffer.address + offset, n_bytes)
    with pytest.raises(InputError, match="not inside one buffer"):
        memory.view(buffer.address + offset, n_bytes)


def test_freed_bytes_are_poisoned_and_unreachable() -> None:
    memory = Memory("m", 1 << 20)
    buffer = memory.allocate(8)
    kept = memory.view(buffer.address, 8)
    memory.free(buffer)
    assert (kept == POISON).all()
    assert not memory.contains(buffer.address, 1)
    with pytest.raises(InputError, match="not allocated here"):
        memory.free(buffer)


def test_full_memory_says_what_is_free() -> None:
    memory = Memory("card memory", 256)
    memory.allocate(180)
    with pytest.raises(CardError, match="card memory is full: 100 bytes wanted, 76 of 256 free"):
        memory.allocate(100)
    assert memory.allocate(8).n_bytes == 8


@pytest.mark.parametrize(("n_bytes", "alignment"), [(0, 64), (-1, 64), (8, 0), (8, 48)])
def test_bad_allocation_is_refused(n_bytes: int, alignment: int) -> None:
    with pytest.raises(InputError):
        Memory("m", 1 << 20).allocate(n_bytes, alignment)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 300)), max_size=60))
def test_live_buffers_never_overlap(steps: list[tuple[bool, int]]) -> None:
    memory = Memory("m", 1 << 16)
    live: list[Buffer] = []
    for grow, number in steps:
        if grow or not live:
            live.append(memory.allocate(number))
        else:
            memory.free(live.pop(number % len(live)))
    ordered = sorted(live, key=lambda b: b.address)
    assert all(a.end <= b.address for a, b in pairwise(ordered))
    assert memory.used == sum(b.n_bytes for b in live)
    assert all(b.address % 64 == 0 for b in live)
