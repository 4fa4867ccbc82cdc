"""Send image files to a stream of frames, and wait until each is safe.

    python examples/send_frames.py photos --port 9000

Without a folder it sends handwriting from the package. A connection that breaks is made again,
and what was not answered is sent again.
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence

import cv2

from accel.demo import digits_test
from accel.errors import AccelError, InputError
from accel.images import image_files

HEADER = struct.Struct(">28sI")  # name, length
NUMBER = struct.Struct(">Q")  # the answer
WINDOW = 256  # frames under way without an answer
RETRY_S = 0.2
Frame = tuple[str, bytes]


def main(arguments: Sequence[str] | None = None) -> int:
    """Send all; 0 for success, 2 for a wrong request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", help="of images; default: digits")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to try without success")
    options = parser.parse_args(arguments)
    try:
        frames = list(files(options.folder) if options.folder else digits())
        seconds = send(frames, options.host, options.port, options.wait)
    except (AccelError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(f"{len(frames)} frames sent and answered, {len(frames) / seconds:,.0f} frames/s")
    return 0


def files(folder: str) -> Iterator[Frame]:
    """The image files of a folder, by name.

    Raises
    ------
    InputError
        No such folder, or a name that does not fit into a frame.
    """
    for file in image_files(folder):
        name = file.relative_to(folder).as_posix()
        if len(name.encode()) > 28:
            raise InputError(f"the name {name!r} has more than 28 bytes; rename the file")
        yield name, file.read_bytes()


def digits() -> Iterator[Frame]:
    """Handwriting as PNG files."""
    for i, image in enumerate(digits_test()[0]):
        yield f"{i:04d}.png", cv2.imencode(".png", image)[1].tobytes()


def send(frames: Sequence[Frame], host: str, port: int, wait_s: float) -> float:
    """Send until all are answered; returns the seconds since the first connection.

    Raises
    ------
    OSError
        No progress within `wait_s`.
    """
    done, started = 0, 0.0
    deadline = time.monotonic() + wait_s
    while done < len(frames):
        try:
            with socket.create_connection((host, port), wait_s) as connection:
                started = started or time.perf_counter()
                for _ in exchange(connection, frames[done:]):
                    done += 1
                    deadline = time.monotonic() + wait_s
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)
    return time.perf_counter() - started if started else 1.0


def exchange(connection: socket.socket, frames: Sequence[Frame]) -> Iterator[int]:
    """Numbers of the frames, as they are answered."""
    with connection.makefile("rb") as answers:
        for i, (name, data) in enumerate(frames):
            if i >= WINDOW:
                yield read_number(answers.read(NUMBER.size))
            connection.sendall(HEADER.pack(name.encode(), len(data)) + data)
        for _ in frames[-WINDOW:]:
            yield read_number(answers.read(NUMBER.size))


def read_number(data: bytes) -> int:
    """One answer; ConnectionError where the stream has gone."""
    if len(data) < NUMBER.size:
        raise ConnectionError("the stream closed the connection")
    number: int = NUMBER.unpack(data)[0]
    return number


if __name__ == "__main__":
    sys.exit(main())
