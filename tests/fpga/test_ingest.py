"""Frames over real sockets into card memory: whole ones arrive, broken ones hurt nobody else."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from accel.errors import CardError, InputError
from accel.fpga import Card, Fault, Frame, Ingest, Rule, send
from accel.fpga.frame import RECORD, datagrams, pack
from accel.fpga.packet import HEADER

WAIT_S = 5.0
FRAMES = [("a.jpg", b"first"), ("empty", b""), ("größe.png", bytes(range(256)) * 700)]


@pytest.fixture
def card() -> Card:
    return Card("alveo-u280")


def taken(ingest: Ingest, count: int) -> list[tuple[str, bytes]]:
    """Read and release the next `count` frames."""
    found = []
    for frame in islice(ingest.frames(WAIT_S), count):
        found.append((frame.name, frame.read()))
        frame.release()
    return found


def until(ingest: Ingest, condition: Callable[[], bool]) -> None:
    """Let the card take what comes until `condition` holds; no frame may come meanwhile."""
    end = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < end:
        assert next(ingest.frames(0.01), None) is None


def connected(ingest: Ingest, *pieces: bytes) -> socket.socket:
    sock = socket.create_connection(ingest.address)
    for piece in pieces:
        sock.sendall(piece)
    return sock


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_arrive_whole_and_in_order_in_card_memory(card: Card, transport: str) -> None:
    with Ingest(card, transport) as ingest:  # type: ignore[arg-type]
        assert send(ingest.address, FRAMES, transport) == 3  # type: ignore[arg-type]
        frames: list[Frame] = []
        for frame in islice(ingest.frames(WAIT_S), 3):
            assert card.memory.contains(frame.address, frame.n_bytes)
            frames.append(frame)
        assert [(f.name, f.read()) for f in frames] == FRAMES
        assert [f.number for f in frames] == [0, 1, 2]
        times = [f.arrived_ps for f in frames]
        assert times == sorted(times)
        card.memory.view(frames[0].address, 1)[0] ^= 0xFF
        assert frames[0].read()[1:] == b"irst"
        assert frames[0].read() != b"first"
        for frame in frames:
            frame.release()
        assert card.memory.used == 0
        assert card.host.used == 0


def test_simulated_time_is_that_of_the_line_and_not_of_the_clock() -> None:
    def times(pause: float) -> list[int]:
        with Ingest(Card("alveo-u280")) as ingest:
            sender = threading.Thread(target=send, args=(ingest.address, FRAMES, "tcp", pause))
            sender.start()
            found = [frame.arrived_ps for frame in islice(ingest.frames(WAIT_S), 3)]
            sender.join()
        return found

    slow, fast = times(0.05), times(0.0)
    assert slow == fast
    assert 179_237 * 80 < slow[-1] < 1.1 * 179_237 * 80 + 1_500_000  # 12.5 bytes a nanosecond


def test_record_that_fits_a_datagram_needs_no_packet_header(card: Card) -> None:
    with Ingest(card, "udp") as ingest:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(pack("plain", b"x" * 100), ingest.address)
        assert taken(ingest, 1) == [("plain", b"x" * 100)]


@pytest.mark.parametrize(
    ("raw", "reason", "message"),
    [
        (RECORD.pack(b"big", 2000), "oversize", "claims 2000 bytes; at most 1000"),
        (RECORD.pack(b"lie", 500) + b"few", "cut", "stopped 497 bytes before its end"),
        (b"half a head", "cut", "after 11 of 32 header bytes"),
        (RECORD.pack(b"\xff\xfe", 1), "bad name", "is not UTF-8"),
    ],
)
def test_broken_sender_is_dropped_and_others_go_on(
    card: Card, raw: bytes, reason: str, message: str
) -> None:
    with Ingest(card, max_frame_bytes=1000) as ingest:
        good = connected(ingest, RECORD.pack(b"good", 4) + b"go")
        connected(ingest, raw).close()
        until(ingest, lambda: reason in ingest.counts)
        assert ingest.counts[reason] == 1
        assert message in ingest.errors[-1]
        good.sendall(b"od")
        assert taken(ingest, 1) == [("good", b"good")]
        good.close()
    assert card.memory.used == 0


def test_sender_that_stops_within_a_frame_gives_its_slot_back(card: Card) -> None:
    with Ingest(card, patience=0.1, slots=1) as ingest:
        stuck = connected(ingest, RECORD.pack(b"stuck", 10) + b"half")
        waiting = connected(ingest, pack("next", b"one"))
        assert taken(ingest, 1) == [("next", b"one")]
        assert ingest.counts["stalled"] == 1
        assert "frame 'stuck' stopped 6 bytes before its end" in ingest.errors[0]
        stuck.close()
        waiting.close()


def test_full_slots_hold_senders_back_and_lose_nothing(card: Card) -> None:
    names = [f"n{i}" for i in range(40)]
    with Ingest(card, slots=3) as ingest:
        senders = [
            threading.Thread(
                target=send, args=(ingest.address, [(n, n.encode() * 5000) for n in part])
            )
            for part in (names[:20], names[20:])
        ]
        for sender in senders:
            sender.start()
        held: list[Frame] = []
        found = []
        for frame in islice(ingest.frames(WAIT_S), len(names)):
            found.append((frame.name, frame.read() == frame.name.encode() * 5000))
            held.append(frame)
            assert len(held) <= 3
            if len(held) == 3:
                assert next(ingest.frames(0.01), None) is None
                for old in held:
                    old.release()
                held.clear()
        for sender in senders:
            sender.join()
    assert sorted(found) == sorted((name, True) for name in names)


def test_datagrams_in_any_order_and_twice_make_one_frame_each(card: Card) -> None:
    random_order = random.Random(1)
    packets = [p for i, (n, d) in enumerate(FRAMES) for p in datagrams(n, d, i)] * 2
    random_order.shuffle(packets)
    with Ingest(card, "udp") as ingest, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for packet in packets:
            sock.sendto(packet, ingest.address)
        found = taken(ingest, len(FRAMES))
        assert sorted(found) == sorted(FRAMES)
        until(ingest, lambda: ingest.counts["stale"] >= 3)


def test_lost_datagram_expires_its_frame_alone(card: Card) -> None:
    with Ingest(card, "udp", patience=0.1) as ingest:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for packet in datagrams("holed", b"x" * 5000, 1)[1:]:
                sock.sendto(packet, ingest.address)
            for packet in datagrams("whole", b"y" * 5000, 2):
                sock.sendto(packet, ingest.address)
        assert taken(ingest, 1) == [("whole", b"y" * 5000)]
        until(ingest, lambda: "expired" in ingest.counts)
        assert ingest.counts["expired"] == 1
        assert "1384 of 5032 bytes lost" in ingest.errors[-1]
    assert card.memory.used == 0


def odd_datagrams() -> Iterator[bytes]:
    """Truncated, altered, lying and oversize pieces."""
    good = datagrams("odd", b"z" * 100, 7)[0]
    yield b"x"
    yield good[:40]
    yield good[:-1] + b"?"
    yield datagrams("huge", b"z" * 3000, 8)[0]
    raw = RECORD.pack(b"lie", 99) + b"w" * 10
    fields = (9, 0, 0, len(raw), len(raw), 0)
    yield raw
    yield struct.pack("<6I", *fields[:5], zlib.crc32(raw)) + raw


def test_odd_datagrams_are_counted_and_dropped(card: Card) -> None:
    with Ingest(card, "udp", max_frame_bytes=1000) as ingest:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for packet in odd_datagrams():
                sock.sendto(packet, ingest.address)
            sock.sendto(pack("good", b"ok"), ingest.address)
        assert taken(ingest, 1) == [("good", b"ok")]
        assert ingest.counts["malformed"] == 6
    assert card.memory.used == 0


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        (Fault.PACKET_LOST, "lost"),
        (Fault.PACKET_TRUNCATED, "malformed"),
        (Fault.PACKET_DUPLICATED, "stale"),
        (Fault.PACKET_REORDERED, ""),
    ],
)
def test_injected_packet_faults_strike_real_datagrams(kind: Fault, counted: str) -> None:
    card = Card("alveo-u280", faults=[Rule(kind, at=(1,))])
    frames = [("one", b"1" * 100), ("two", b"2" * 100), ("three", b"3" * 100)]
    with Ingest(card, "udp") as ingest:
        send(ingest.address, frames, "udp")
        lost = kind in (Fault.PACKET_LOST, Fault.PACKET_TRUNCATED)
        found = taken(ingest, 2 if lost else 3)
        assert sorted(found) == sorted(f for f in frames if f[0] != "two" or not lost)
        assert not counted or ingest.counts[counted] == 1


def test_answers_reach_a_tcp_sender(card: Card) -> None:
    with Ingest(card) as ingest:
        sock = connected(ingest, pack("a", b"1"))
        next(ingest.frames(WAIT_S)).answer(7)
        assert sock.recv(8) == (7).to_bytes(8, "big")
        sock.close()
    with Ingest(card, "udp") as ingest:
        send(ingest.address, [("a", b"1")], "udp")
        with pytest.raises(InputError, match="no way back"):
            next(ingest.frames(WAIT_S)).answer(7)


class SlowWaker:
    """A socket that takes its time, so that others may close it meanwhile."""

    def __init__(self, waker: socket.socket) -> None:
        self._waker = waker
        self.called = threading.Event()

    def send(self, data: bytes) -> int:
        self.called.set()
        time.sleep(0.05)
        return self._waker.send(data)

    def close(self) -> None:
        self._waker.close()


def test_leaving_it_waits_for_another_thread_that_closes_it(card: Card) -> None:
    with ThreadPoolExecutor(1) as pool, Ingest(card) as ingest:
        waker = SlowWaker(ingest._waker)
        ingest._waker = waker  # type: ignore[assignment]
        closed = pool.submit(ingest.close)
        assert waker.called.wait(WAIT_S)
    assert closed.result() is None


def test_another_thread_may_close_it(card: Card) -> None:
    with Ingest(card) as ingest:
        threading.Timer(0.05, ingest.close).start()
        assert list(ingest.frames()) == []


def test_bad_options_are_refused(card: Card) -> None:
    with pytest.raises(CardError, match="zcu102 has no network port"):
        Ingest(Card("zcu102"))
    for options in ({"port": 70000}, {"slots": 0}, {"max_frame_bytes": 0}, {"patience": 0.0}):
        with pytest.raises(InputError, match=r"out of range|patience"):
            Ingest(card, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected 'tcp' or 'udp'"):
        Ingest(card, "sctp")  # type: ignore[arg-type]
    for name in ("x" * 29, "a\0b"):
        with pytest.raises(InputError, match="does not fit into 28 bytes"):
            pack(name, b"")
    assert HEADER.itemsize == 24
