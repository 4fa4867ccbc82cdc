"""Inbox: whole frames in order, however the bytes of a connection come."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from spark_bridge import inbox
from spark_bridge.inbox import FrameError, Inbox
from spark_bridge.spool import HEADER

Ends = tuple[socket.socket, socket.socket]
SIZES = (0, 1, 999, 70_000, 3 << 20, 0, 5)  # below and above the piece that is read at once


@pytest.fixture
def ends() -> Iterator[Ends]:
    sender, taker = socket.socketpair()
    with sender, taker:
        yield sender, taker


def frames_of(box: Inbox) -> list[tuple[bytes, bytes]]:
    return [(n.rstrip(b"\0"), bytes(data)) for some in iter(box.read, []) for n, data in some]


def frame(name: bytes, data: bytes) -> bytes:
    return HEADER.pack(name, len(data)) + data


@pytest.mark.parametrize("most", [1, 31, 33, 1 << 14, 1 << 22])
def test_inbox_gives_whole_frames_from_pieces_of_any_size(
    ends: Ends, rng: np.random.Generator, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PIECE_BYTES", 64)  # grows, as for frames beyond a megabyte
    sizes = SIZES if most > 1000 else (0, 1, 999, 2, 0)
    sent = [(b"%d" % i, rng.bytes(size)) for i, size in enumerate(sizes)]
    stream = b"".join(frame(*one) for one in sent)
    sender, taker = ends

    def send() -> None:
        for at in range(0, len(stream), most):
            sender.sendall(stream[at : at + most])
        sender.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    assert frames_of(Inbox(taker, 4 << 20)) == sent
    thread.join()


def test_inbox_gives_at_once_what_came_whole_in_the_same_piece(ends: Ends) -> None:
    ends[0].sendall(frame(b"a", b"1") + frame(b"b", b"2") + frame(b"c", b"3")[:-1])
    box = Inbox(ends[1], 10)
    assert [bytes(data) for _, data in box.read()] == [b"1", b"2"] and not box.is_empty()
    ends[0].sendall(b"3")
    assert [bytes(data) for _, data in box.read()] == [b"3"] and box.is_empty()


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (HEADER.pack(b"a", 11) + bytes(11), "11 bytes; at most 10"),
        (HEADER.pack(b"\xff", 1) + bytes(1), "not UTF-8"),
        (HEADER.pack(b"a", 9)[:-1], "before the end of its header"),
        (HEADER.pack(b"a", 9) + bytes(8), "1 bytes before the end of its content"),
    ],
)
def test_inbox_frame_that_breaks_the_rules_is_an_error(ends: Ends, sent: bytes, error: str) -> None:
    ends[0].sendall(frame(b"whole", b"1") + sent)
    ends[0].shutdown(socket.SHUT_WR)
    box = Inbox(ends[1], 10)
    assert len(box.read()) == 1
    with pytest.raises(FrameError, match=error):
        box.read()


def test_inbox_memory_grows_with_what_came_not_with_what_was_claimed(ends: Ends) -> None:
    ends[0].sendall(HEADER.pack(b"a", 1 << 30) + bytes(1000))
    ends[0].shutdown(socket.SHUT_WR)
    box = Inbox(ends[1], 1 << 31)
    with pytest.raises(FrameError):
        box.read()
    assert len(box._bytes) == inbox.PIECE_BYTES
