"""Streaming queues: packets through 16- and 8-byte descriptors, whole, once and in order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import CardError, InputError
from accel.fpga import Card
from accel.fpga.stream import C2H_STREAM, H2C_STREAM, MAX_LENGTH, STREAM_DONE, WAITING, Stream

BUFFER = 256


def test_descriptors_have_the_sizes_of_the_hardware() -> None:
    assert (H2C_STREAM.size, C2H_STREAM.size, STREAM_DONE.size) == (16, 8, 8)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 1000), min_size=1, max_size=150),
    cuts=st.integers(1, 4),
    buffers=st.integers(4, 64),
    every=st.integers(1, 20),
)
def test_packets_come_back_whole_once_and_in_order(
    lengths: list[int], cuts: int, buffers: int, every: int
) -> None:
    card = Card("alveo-u200", trace=False)
    stream = Stream(card, lambda data: data[::-1], ring_size=64, buffer_bytes=BUFFER)
    here = card.host.allocate(sum(lengths))
    free = [card.host.allocate(BUFFER).address for _ in range(buffers)]
    sent, back = [], []
    start = 0

    def turn() -> None:
        while free and stream.space[1]:
            stream.offer(free.pop())
        stream.doorbell()
        card.run()
        for packet in stream.packets():
            back.append(packet.data)
            free.extend(packet.buffers)

    for number, length in enumerate(lengths):
        data = bytes((number * 7 + i) % 256 for i in range(length))
        card.host.write(here.address + start, data)
        step = -(-length // cuts)
        pieces = [(at, min(step, length - at)) for at in range(0, length, step)]
        while stream.space[0] < len(pieces):
            turn()
        for at, n in pieces:
            stream.send(here.address + start + at, n, last=at + n == length)
        sent.append(data[::-1])
        start += length
        if number % every == 0:
            turn()
    for _ in range(len(lengths) + 2):
        turn()
    assert back == sent
    assert len(free) + 64 - stream.space[1] == buffers


def test_card_without_buffers_holds_packets_and_then_stops_fetching() -> None:
    card = Card("alveo-u200", trace=False)
    stream = Stream(card, ring_size=1024, buffer_bytes=BUFFER)
    here = card.host.allocate(64)
    for _ in range(500):
        stream.send(here.address, 64)
    stream.doorbell()
    card.run()
    fetched = 500 - (1024 - stream.space[0])
    assert WAITING <= fetched < WAITING + 2 * 16
    assert stream.packets() == []
    for _ in range(500):
        stream.offer(card.host.allocate(BUFFER).address)
    stream.doorbell()
    card.run()
    assert [len(packet.data) for packet in stream.packets()] == [64] * 500


def test_failing_consumer_and_oversize_answers_cost_their_packet_alone() -> None:
    def consumer(data: bytes) -> bytes:
        if data == b"bad":
            raise ZeroDivisionError("no")
        return data * 100_000 if data == b"big" else data

    card = Card("alveo-u200")
    stream = Stream(card, consumer, ring_size=64, buffer_bytes=BUFFER)
    here = card.host.allocate(9)
    card.host.write(here.address, b"badbigyes")
    for offset in (0, 3, 6):
        stream.offer(card.host.allocate(BUFFER).address)
        stream.send(here.address + offset, 3)
    stream.doorbell()
    card.run()
    assert [packet.data for packet in stream.packets()] == [b"yes"]
    assert list(stream.errors) == [
        "consumer: ZeroDivisionError: no",
        "a packet of 300000 bytes takes 1172 buffers of 256; the ring holds 64",
    ]


def test_reset_empties_the_rings_and_nothing_from_before_arrives() -> None:
    card = Card("alveo-u200")
    stream = Stream(card, ring_size=64, buffer_bytes=BUFFER)
    here, there = card.host.allocate(8), card.host.allocate(BUFFER)
    for word in (b"old", b"new"):
        card.host.write(here.address, word)
        stream.offer(there.address)
        stream.send(here.address, 3)
        stream.doorbell()
        if word == b"old":
            card.run(card.now_ps + 500_000)  # the descriptors are on their way
            card.reset()
            assert stream.space == (64, 64)
    card.run()
    assert [packet.data for packet in stream.packets()] == [b"new"]


def test_time_of_a_packet_is_two_ways_through_the_link() -> None:
    card = Card("alveo-u200", trace=False)
    stream = Stream(card)
    here, there = card.host.allocate(4096), card.host.allocate(4096)
    stream.offer(there.address)
    stream.send(here.address, 4096)
    stream.doorbell()
    card.run()
    latency = card.profile.value("link.read_latency")
    assert 2 * latency < card.now_ps / 1e12 < 2 * latency + 3e-6


def test_bad_stream_descriptors_are_refused() -> None:
    card = Card("alveo-u200")
    stream = Stream(card, ring_size=64)
    here = card.host.allocate(100)
    for length in (0, -1, MAX_LENGTH + 1):
        with pytest.raises(InputError, match="expected 1 to 65535"):
            stream.send(here.address, length)
    with pytest.raises(InputError, match="not inside one buffer"):
        stream.send(here.address, 101)
    with pytest.raises(InputError, match="not inside one buffer"):
        stream.offer(here.address)
    with pytest.raises(InputError, match="power of two"):
        Stream(card, ring_size=100)
    with pytest.raises(InputError, match="buffer_bytes is 0"):
        Stream(card, buffer_bytes=0)
    for _ in range(64):
        stream.send(here.address, 1)
    with pytest.raises(CardError, match="stream ring of 64 descriptors is full"):
        stream.send(here.address, 1)
