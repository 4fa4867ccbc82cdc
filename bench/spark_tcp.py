"""Frames per second from one TCP sender through `accel_frames`, nothing computed."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pyspark.sql import SparkSession

from spark_bridge import read_frames
from spark_bridge.spool import HEADER

FRAME_BYTES, COUNT = 40_000, 12_000
WINDOW = 1024  # frames under way without an answer


def frames_per_s(spark: SparkSession, ack: str, folder: Path) -> float:
    """From the sender's first byte until the stream has read the last frame."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        port = _free_port()
        frames = read_frames(spark, "127.0.0.1", port, f"{work}/spool", ack=ack)  # type: ignore[arg-type]
        writer = frames.selectExpr("number").writeStream.format("noop")
        query = writer.option("checkpointLocation", f"{work}/checkpoint").start()
        try:
            command = [sys.executable, __file__, str(port), str(COUNT), ack]
            sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert sender.stdout is not None
            started = float(sender.stdout.readline())
            while _rows_read(query) < COUNT:
                time.sleep(0.02)
            elapsed = time.time() - started
            assert sender.wait() == 0
        finally:
            query.stop()
    return COUNT / elapsed


def send(port: int, count: int, ack: str) -> None:
    """Send `count` frames and wait for their answers, if there are any; prints when it began."""
    data = bytes(FRAME_BYTES)
    with _connected(port) as connection, connection.makefile("rb") as answers:
        print(time.time(), flush=True)
        for i in range(count):
            if ack == "each" and i >= WINDOW:
                answers.read(8)
            connection.sendall(HEADER.pack(b"%d.jpg" % i, len(data)) + data)
        if ack == "each":
            answers.read(8 * min(WINDOW, count))


def _rows_read(query: object) -> int:
    return sum(progress.numInputRows for progress in query.recentProgress)  # type: ignore[attr-defined]


def _connected(port: int) -> socket.socket:
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.05)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


if __name__ == "__main__":
    send(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
