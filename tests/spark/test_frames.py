"""accel_frames: what senders bring arrives once, whatever they do to the connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import accel
from accel.errors import AccelError, InputError
from accel.fpga import send
from spark_bridge import predict, read_frames, write_batches
from spark_bridge.card_receiver import CardReceiver
from spark_bridge.receiver import Receiver, Wire
from spark_bridge.spool import HEADER, Spool

WAIT_S = 60.0


def frame(name: str, data: bytes) -> bytes:
    return HEADER.pack(name.encode(), len(data)) + data


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def contents(spool: Spool) -> list[bytes]:
    return [bytes(data) for _, _, data in spool.tail(10_000)]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answers(connection: socket.socket, count: int) -> list[int]:
    connection.settimeout(WAIT_S)
    found = b""
    while len(found) < 8 * count:
        more = connection.recv(8 * count - len(found))
        if not more:
            raise ConnectionResetError(f"cut off after {len(found)} of {8 * count} bytes")
        found += more
    return list(struct.unpack(f">{count}Q", found))


def send_all(port: int, frames: list[bytes]) -> list[int]:
    """As a sender should: on a new connection whenever one is cut off, with all of it again."""
    deadline = time.monotonic() + WAIT_S
    while True:
        with connected(port) as sender:
            try:
                sender.sendall(b"".join(frames))
                return answers(sender, len(frames))
            except ConnectionError:  # a listener of the query that was stopped
                assert time.monotonic() < deadline


CARD = "alveo-u280"


@pytest.fixture(params=["socket", "card"])
def receiver(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., tuple[Spool, int]]]:
    """Starts a receiver that listens, on this machine or on a card; gives its spool and port."""
    stops: list[Callable[[], None]] = []

    def start(acknowledge: bool = True, max_frame_bytes: int = 1000) -> tuple[Spool, int]:
        while stops:
            stops.pop()()
        spool = Spool(tmp_path / "spool", 300, 1 << 20)
        port = free_port()
        card = CARD if request.param == "card" else None
        wire = Wire("127.0.0.1", port, True, acknowledge, max_frame_bytes, card)
        made = (CardReceiver if card else Receiver)(wire, spool)
        stops.extend([spool.close, made.stop])
        return spool, port

    yield start
    while stops:
        stops.pop()()


def test_receiver_repeated_frames_are_answered_by_their_old_number_after_a_restart(
    receiver: Callable[..., tuple[Spool, int]],
) -> None:
    rows = [frame(f"{i}.png", bytes([i]) * 40) for i in range(20)]
    _, port = receiver()
    with socket.create_connection(("127.0.0.1", port)) as sender:
        sender.sendall(b"".join(rows[:12]))
        assert answers(sender, 12) == list(range(12))
    spool, port = receiver()  # as after a crash: the frames are known from disk alone
    with socket.create_connection(("127.0.0.1", port)) as sender:
        sender.sendall(b"".join(rows[7:]))
        assert answers(sender, 13) == list(range(7, 20))
    assert contents(spool) == [bytes([i]) * 40 for i in range(20)]


@pytest.mark.parametrize(
    "bad",
    [
        HEADER.pack(b"lies", 2**32 - 1),
        HEADER.pack(b"oversize", 1001) + bytes(1001),
        HEADER.pack(b"cut", 100) + bytes(60),
        HEADER.pack(b"\xff\xfe", 1) + b"x",
        b"half a header",
    ],
    ids=["lying length", "oversize", "cut", "name", "header"],
)
def test_receiver_bad_frame_ends_its_sender_and_leaves_no_trace(
    receiver: Callable[..., tuple[Spool, int]], bad: bytes
) -> None:
    spool, port = receiver()
    with socket.create_connection(("127.0.0.1", port)) as other:
        with socket.create_connection(("127.0.0.1", port)) as sender:
            sender.sendall(frame("good", b"1") + bad)
            with contextlib.suppress(OSError):  # it may be cut off already
                sender.shutdown(socket.SHUT_WR)
            until(lambda: spool.end == 1)
        other.sendall(frame("good", b"1") + frame("later", b"2"))  # the answer may have been lost
        assert answers(other, 2) == [0, 1]
    assert contents(spool) == [b"1", b"2"]


def test_receiver_two_senders_at_once_each_keep_their_order(
    receiver: Callable[..., tuple[Spool, int]],
) -> None:
    spool, port = receiver()
    rows = {who: [frame(f"{who}{i}", f"{who}{i}".encode()) for i in range(30)] for who in "ab"}
    with contextlib.ExitStack() as stack:
        senders = {
            who: stack.enter_context(socket.create_connection(("127.0.0.1", port))) for who in rows
        }
        for pair in zip(*rows.values(), strict=True):
            for sender, row in zip(senders.values(), pair, strict=True):
                sender.sendall(row)
        numbers = {who: answers(sender, 30) for who, sender in senders.items()}
    kept = contents(spool)
    for who, own in numbers.items():
        assert own == sorted(own)
        assert [kept[i] for i in own] == [f"{who}{i}".encode() for i in range(30)]
    assert len(kept) == 60


def test_receiver_sender_that_vanishes_leaves_its_whole_frames(
    receiver: Callable[..., tuple[Spool, int]],
) -> None:
    spool, port = receiver()
    sender = socket.create_connection(("127.0.0.1", port))
    sender.sendall(frame("whole", b"1"))
    assert answers(sender, 1) == [0]
    sender.sendall(frame("cut", bytes(90))[:60])
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sender.close()  # a reset, as of a machine that has lost its power
    with socket.create_connection(("127.0.0.1", port)) as other:
        other.sendall(frame("next", b"2"))
        assert answers(other, 1) == [1]
    assert contents(spool) == [b"1", b"2"]


def test_receiver_sender_that_stands_still_within_a_frame_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spark_bridge.inbox.FRAME_S", 0.2)
    spool, port = Spool(tmp_path, 1 << 20, 1 << 20), free_port()
    made = Receiver(Wire("127.0.0.1", port, True, True, 1000), spool)
    with socket.create_connection(("127.0.0.1", port)) as sender:
        sender.sendall(frame("good", b"1") + HEADER.pack(b"never ends", 100) + b"x")
        assert answers(sender, 1) == [0]
        assert sender.recv(1) == b""
    assert contents(spool) == [b"1"]
    made.stop()
    spool.close()


def test_card_receiver_takes_frames_over_udp(tmp_path: Path) -> None:
    spool, port = Spool(tmp_path, 1 << 20, 1 << 20), free_port()
    wire = Wire("127.0.0.1", port, True, False, 100_000, CARD, "udp")
    made = CardReceiver(wire, spool)
    frames = [(f"{i}.png", bytes([i]) * 5000) for i in range(8)]
    send(("127.0.0.1", port), frames, "udp", pause=0.01)
    until(lambda: spool.end == 8)
    assert [(name.rstrip(b"\0").decode(), data) for _, name, data in spool.tail(9)] == frames
    made.stop()
    spool.close()


@pytest.mark.parametrize("card", ["", CARD])
def test_read_frames_stream_predicts_each_frame_once_over_a_restart(
    spark: SparkSession, cnn: accel.Model, files: list[bytes], tmp_path: Path, card: str
) -> None:
    port = free_port()
    spool, out, checkpoint = (str(tmp_path / n) for n in ("spool", "out", "checkpoint"))
    stream = read_frames(
        spark, "127.0.0.1", port, spool, ack="each", card=card, maxFramesPerTrigger=8
    )
    predicted = predict(stream, cnn).select("name", "number", "prediction.label")

    def send(first: int, last: int) -> None:
        query = write_batches(predicted, out, checkpoint)
        try:
            send_all(port, [frame(f"{i}.png", files[i]) for i in range(first, last)])
            query.processAllAvailable()
        finally:
            query.stop()

    send(0, 12)
    send(8, 20)
    found = sorted((r.number, r.name, r.label) for r in spark.read.parquet(out).collect())
    table = spark.createDataFrame(list(enumerate(files[:20])), "number long, content binary")
    labels = predict(table, cnn).select("number", "prediction.label").collect()
    assert found == [(r.number, f"{r.number}.png", r.label) for r in labels]


def connected(port: int) -> socket.socket:
    """A connection, as soon as somebody listens."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "both"}, "mode is 'both'; expected one of listen, connect"),
        ({"port": 70000}, "port is 70000"),
        ({"maxFrameBytes": "many"}, "option maxFrameBytes: not a whole number"),
        ({"window": 3}, "unknown option 'window'"),
        ({"card": "alveo-u51"}, "card 'alveo-u51' is not known"),
        ({"card": "zcu104"}, "card 'zcu104' has no network port"),
        ({"card": CARD, "mode": "connect"}, "a card's port only listens"),
        ({"card": CARD, "transport": "udp", "ack": "each"}, "UDP has no way back"),
        ({"transport": "udp"}, "needs the port of a card"),
    ],
)
def test_read_frames_wrong_option_is_an_error_at_once(
    spark: SparkSession, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    given: dict[str, object] = {"host": "127.0.0.1", "port": 9000, "spool": str(tmp_path)}
    with pytest.raises(AccelError, match=message):
        read_frames(spark, **(given | change))  # type: ignore[arg-type]


def test_write_batches_of_a_table_is_an_error(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="df is no stream"):
        write_batches(spark.range(1), str(tmp_path), str(tmp_path))
