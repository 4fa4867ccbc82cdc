"""The card: bytes through descriptors, exact timelines, refused input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from accel.errors import CardError, InputError
from accel.fpga import Card, Driver, Flag, Network, Profile, Status, load_profile, profile_names
from accel.fpga.network import Arrays
from accel.fpga.ring import DESCRIPTOR


def test_h2c_then_c2h_brings_the_bytes_back(rng: np.random.Generator) -> None:
    card = Card("alveo-u50")
    queue = card.queue(ring_size=256)
    here, there, back = (
        card.host.allocate(5000),
        card.memory.allocate(5000),
        card.host.allocate(5000),
    )
    card.host.write(here.address, rng.integers(0, 256, 5000, dtype=np.uint8))
    queue.post("h2c", here.address, there.address, 5000)
    queue.doorbell()
    card.run()
    queue.post("c2h", there.address, back.address, 5000)
    queue.doorbell()
    card.run()
    assert [(c.status, c.length) for c in queue.completions()] == [(Status.OK, 5000)] * 2
    assert np.array_equal(card.host.view(back.address, 5000), card.host.view(here.address, 5000))


def round_profile() -> Profile:
    """Return a link of one byte a nanosecond and reads of 1 us: times can be added by hand."""
    return load_profile("nfp6000").with_values(
        link__gigatransfers=8.125 / (1 - 4 / 1538), link__lanes=1, link__ack_limit=1e18,
        link__credit_limit=1e18, link__read_latency=1e-6, link__write_latency=0.0,
        link__doorbell_latency=0.0, link__read_tags=1e9, link__read_window=1e12,
        link__write_rate=1e12, link__piece_overhead=0.0, memory__bandwidth=1e9,
    )  # fmt: skip


def timeline_ns(card: Card) -> list[tuple[str, int]]:
    return [(name, round(time_ps / 1000)) for name, time_ps in card.trace.timeline()]


def test_timeline_of_one_h2c_copy_is_exact() -> None:
    card = Card(round_profile())
    queue = card.queue()
    a, b = card.host.allocate(1000), card.memory.allocate(1000)
    queue.post("h2c", a.address, b.address, 1000)
    queue.doorbell()
    card.run()
    assert timeline_ns(card) == [
        ("fetch", 28),  # doorbell: 4 bytes and a header of 24
        ("fetch", 28),
        ("h2c", 1080),  # descriptor: 32 bytes, a header of 20, one read latency
        ("h2c", 1080),
        ("status", 1128),  # behind two read requests of 24 bytes
        ("h2c", 3160),  # data: 1000 bytes, four headers of 20, one read latency; then memory
        ("completion", 4160),  # memory: 1000 bytes
        ("completion", 4200),  # 16 bytes and a header of 24
    ]


def test_timeline_of_one_c2h_copy_is_exact() -> None:
    card = Card(round_profile())
    queue = card.queue()
    a, b = card.host.allocate(1000), card.memory.allocate(1000)
    queue.post("c2h", b.address, a.address, 1000)
    queue.doorbell()
    card.run()
    assert timeline_ns(card) == [
        ("fetch", 28),
        ("fetch", 28),
        ("c2h", 1080),  # memory: 1000 bytes
        ("status", 1080),
        ("c2h", 2080),  # wire: 1000 bytes and four headers of 24
        ("completion", 3176),
        ("completion", 3216),
    ]


@pytest.mark.parametrize(
    ("length", "shift"), [(0, 0), (-1, 0), (2**28, 0), (100, 1), (100, -1), (101, 0)]
)
def test_post_refuses_bytes_it_cannot_move(length: int, shift: int) -> None:
    card = Card("alveo-u200")
    queue = card.queue()
    a, b = card.host.allocate(100), card.memory.allocate(100)
    with pytest.raises(InputError, match=r"length is|not inside one buffer"):
        queue.post("h2c", a.address + shift, b.address, length)
    with pytest.raises(InputError, match=r"length is|not inside one buffer"):
        queue.post("c2h", b.address, a.address + shift, length)
    assert queue.post("h2c", a.address, b.address, 100) == 0


def test_post_refuses_an_unknown_direction() -> None:
    with pytest.raises(InputError, match="expected 'h2c' or 'c2h'"):
        Card("alveo-u200").queue().post("up", 0, 0, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["source", "destination", "length"])
def test_corrupt_descriptor_fails_its_command_and_the_card_lives_on(field: str) -> None:
    card = Card("alveo-u200")
    queue = card.queue()
    a, b = card.host.allocate(100), card.memory.allocate(100)
    for _ in range(3):
        queue.post("h2c", a.address, b.address, 100)
    queue.h2c.entries[field][1] = 0
    queue.doorbell()
    card.run()
    assert {c.cid: c.status for c in queue.completions()} == {
        0: Status.OK, 1: Status.DESCRIPTOR_ERROR, 2: Status.OK,
    }  # fmt: skip
    assert card.dma.counts["errors"] == 1


def test_rest_of_a_failed_command_is_not_executed(
    network: Callable[..., Network],
) -> None:
    card = Card("alveo-u50")
    queue = card.queue()
    slot = card.load(network())
    a, b = card.host.allocate(400), card.memory.allocate(network().frame_bytes)
    cid = queue.post("h2c", a.address, b.address, 100, flags=Flag.FIRST)
    queue.post("h2c", a.address + 100, b.address + 100, 156, cid=cid, flags=Flag.LAST | Flag.RUN,
               program=slot)  # fmt: skip
    queue.h2c.entries["length"][0] = 10_000
    queue.doorbell()
    card.run()
    assert [c.status for c in queue.completions()] == [Status.DESCRIPTOR_ERROR]
    assert card.scheduler is not None
    assert card.scheduler.images == 0


def test_failure_is_reported_only_when_the_engine_has_let_go(
    network: Callable[..., Network],
) -> None:
    net = network()
    card = Card("alveo-u50")
    assert card.scheduler is not None
    queue = card.queue()
    slot = card.load(net)
    a, b = card.host.allocate(net.frame_bytes), card.memory.allocate(net.frame_bytes)
    flags = Flag.FIRST | Flag.LAST | Flag.RUN
    cid = queue.post("h2c", a.address, b.address, net.input_bytes, flags=flags, program=slot)
    queue.doorbell()
    card.run(card.now_ps + 50_000_000)
    assert card.scheduler.frames == {b.address}
    flags = Flag.FIRST | Flag.LAST | Flag.AFTER
    queue.post("c2h", b.address, a.address, net.frame_bytes, cid=cid, flags=flags)
    queue.c2h.entries["length"][0] = 2**27
    queue.doorbell()
    card.run(card.now_ps + 50_000_000)
    assert card.dma.counts["errors"] == 1
    assert queue.completions() == []
    card.run()
    assert [c.status for c in queue.completions()] == [Status.DESCRIPTOR_ERROR]
    assert card.scheduler.frames == set()


def test_doorbell_past_the_ring_is_refused_and_counted() -> None:
    card = Card("alveo-u200")
    queue = card.queue(64)
    card.dma.doorbell(queue.context.h2c, 65)
    card.run()
    assert card.dma.counts == card.dma.counts | {"bad_doorbells": 1, "descriptors": 0}


def test_unread_completions_hold_back_the_card_and_none_is_lost() -> None:
    card = Card("nfp6000")
    queue = card.queue(64)
    a, b = card.host.allocate(8), card.memory.allocate(8)
    for i in range(64):
        queue.post("h2c", a.address, b.address, 8)
        queue.forget(i)
    queue.doorbell()
    card.run()
    second = [queue.post("h2c", a.address, b.address, 8) for _ in range(10)]
    queue.doorbell()
    card.run()
    assert queue.completions() == []
    assert queue.stale == 64
    card.run()
    assert [c.cid for c in queue.completions()] == second


def test_unknown_card_lists_the_known_ones() -> None:
    with pytest.raises(CardError, match="card 'alveo-u9' is not known; known cards: alveo-u200"):
        Card("alveo-u9")


def test_card_without_engine_refuses_a_network(network: Callable[..., Network]) -> None:
    with pytest.raises(CardError, match="no compute engine"):
        Card("nfp6000").load(network())


def test_network_too_large_for_the_card_is_refused(network: Callable[..., Network]) -> None:
    profile = load_profile("alveo-u50").with_values(memory__capacity=1000.0)
    with pytest.raises(CardError, match="card memory is full"):
        Card(profile).load(network())


def test_running_into_the_past_is_refused() -> None:
    card = Card("nfp6000")
    card.run(1000)
    with pytest.raises(InputError, match="it is 1000 ps already"):
        card.run(10)


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_card_moves_bytes(name: str) -> None:
    card = Card(name)
    queue = card.queue()
    a, b = card.host.allocate(300), card.memory.allocate(300)
    card.host.write(a.address, b"x" * 300)
    queue.post("h2c", a.address, b.address, 300)
    queue.doorbell()
    card.run()
    assert [c.ok for c in queue.completions()] == [True]
    assert card.memory.view(b.address, 300).tobytes() == b"x" * 300


def test_flipped_byte_in_card_memory_changes_the_output(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    """The values come from the bytes in card memory at the moment the engine ends."""
    net, inputs = network(), batch()
    card = Card("alveo-u50")
    driver = Driver(card)
    request = driver.submit(driver.load(net), inputs)
    while card.dma.counts["h2c_bytes"] < net.input_bytes:
        card.env.step()
    assert request.slot is not None
    frame = request.slot[2]
    card.memory.view(frame.address + 7, 1)[0] ^= 0x10
    outputs = driver.wait(request)
    expected = net.compute(inputs)["y"]
    changed = np.argwhere(outputs["y"] != expected)
    assert changed.tolist() == [[0, 7]]


def test_same_seed_gives_the_same_trace_byte_for_byte(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    inputs = batch()

    def trace(seed: int) -> str:
        card = Card("alveo-u50", seed=seed, faults="completion_lost:0.2,F15:0.3")
        driver = Driver(card)
        slot = driver.load(network())
        for request in [driver.submit(slot, inputs) for _ in range(20)]:
            driver.wait(request)
        return card.trace.to_json()

    assert trace(3) == trace(3)
    assert trace(3) != trace(4)


def test_descriptor_bytes_lie_in_host_memory() -> None:
    card = Card("alveo-u200")
    queue = card.queue()
    a, b = card.host.allocate(8), card.memory.allocate(8)
    queue.post("h2c", a.address, b.address, 8)
    raw = card.host.view(queue.h2c.buffer.address, DESCRIPTOR.itemsize).view(DESCRIPTOR)[0]
    assert (raw["source"], raw["destination"], raw["length"]) == (a.address, b.address, 8)
