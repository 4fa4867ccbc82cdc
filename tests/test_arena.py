"""The memory of a plan: what lives at once never overlaps, what does not shares."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import accel
from accel.arena import ALIGN, Arena, Buffer, Lives
from accel.backends.cpu import PlanProgram
from tests.networks import Net, small_cnn


def steps(buffer: Buffer) -> range:
    """Those in which it is in use."""
    assert buffer.first is not None
    return range(buffer.first, buffer.last + 1)


LIVES = st.tuples(st.integers(0, 5000), st.integers(-1, 20), st.integers(0, 20))


@given(st.lists(LIVES, max_size=40))
def test_buffers_that_live_at_once_do_not_overlap(lives: list[tuple[int, int, int]]) -> None:
    arena = Arena()
    for nbytes, first, length in lives:
        buffer = arena.reserve(nbytes)
        buffer.use(first)
        buffer.use(first + length)
    arena.place()
    for i, a in enumerate(arena.buffers):
        assert a.offset % ALIGN == 0 and a.offset + a.nbytes <= arena.nbytes
        assert a.memory is not None and a.memory.nbytes == a.nbytes >= lives[i][0]
        for b in arena.buffers[:i]:
            apart = a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
            assert apart or not set(steps(a)) & set(steps(b))


@given(st.lists(st.tuples(st.integers(-1, 9), st.integers(0, 12)), min_size=1, max_size=20))
def test_lives_finds_each_buffer_of_common_steps_once(spans: list[tuple[int, int]]) -> None:
    arena, lives = Arena(), Lives(-1, 21)
    for first, length in spans:
        buffer = arena.reserve(1)
        buffer.use(first)
        buffer.use(first + length)
        met = [b for b in arena.buffers[:-1] if set(steps(b)) & set(steps(buffer))]
        assert sorted(map(id, lives.meeting(buffer))) == sorted(map(id, met))
        lives.add(buffer)


def test_a_chain_needs_room_for_its_two_largest_neighbours() -> None:
    arena = Arena()
    for i, nbytes in enumerate([640, 1280, 640, 64]):
        buffer = arena.reserve(nbytes)
        buffer.use(i)
        buffer.use(i + 1)
    arena.place()
    assert arena.nbytes == 640 + 1280


def test_buffer_takes_the_place_of_the_one_that_its_writer_reads_last() -> None:
    arena = Arena()
    chain = [arena.reserve(640) for _ in range(4)]
    for i, buffer in enumerate(chain):
        buffer.use(2 * i)
        buffer.use(2 * i + 2)
        buffer.over = chain[i - 1] if i else None
    other = arena.reserve(640)  # wants the place of one that is read later still
    other.use(5)
    other.over = chain[2]
    arena.place()
    assert {b.offset for b in chain} == {0} and other.offset == 640 and arena.nbytes == 1280


def test_sum_lies_over_its_residual_unless_the_layer_reads_it_too() -> None:
    def offsets(itself: bool) -> list[int]:
        net = Net()
        x = net.op("Relu", net.conv("x", 32, 3, k=1))
        y = x if itself else net.op("Relu", net.conv(x, 32, 32, k=1))
        z = net.op("Relu", net.op("Add", net.conv(y, 32, 32, k=1), x))
        z = net.conv(z, 5, 32, k=1)
        data = net.model({"x": [1, 3, 64, 64]}, {z: [1, 5, 64, 64]})
        program = accel.device("cpu").compile(accel.load(data).quantize())
        assert isinstance(program, PlanProgram)
        large = [b for b in program.lives() if b.nbytes == 64 * 64 * (32 + 4) + 64]
        return [b.offset for b in large]

    first, _, third = offsets(itself=False)
    assert first == third
    assert len(set(offsets(itself=True))) == 2


def test_runs_give_the_same_bits_again_whatever_lay_in_the_memory(
    rng: np.random.Generator,
) -> None:
    program = accel.device("cpu").compile(accel.load(small_cnn()).quantize())
    assert isinstance(program, PlanProgram)
    x = rng.standard_normal((1, *program.inputs[0].shape[1:])).astype(np.float32)  # type: ignore[arg-type]
    first = program.run(x)
    (stage,) = program._plan.stages
    arena = stage.arena
    assert arena.nbytes < sum(b.nbytes for b in arena.buffers)
    for buffer in arena.buffers:
        assert buffer.memory is not None
        buffer.memory[:] = 0xA5
    assert np.array_equal(program.run(x), first)
