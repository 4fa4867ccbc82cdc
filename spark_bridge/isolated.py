"""Decode images in a process of its own, so that a decoder that crashes costs one row.

A crash ends the whole Python worker and with it the try of the task. The next try decodes here:
the image that ends this process is a row with an error, and a new process goes on with the next.
The process answers one value at a time over its standard input and output.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from typing import IO, Any

import numpy as np
from pyspark import TaskContext

import accel
from accel.images import ImageChain
from spark_bridge.rows import Array, RowError, image_row
from spark_bridge.settings import Settings

LENGTH = struct.Struct(">Q")


class Decoder:
    """`image_row` in another process, which is started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def image_row(
        self, value: object, spec: accel.TensorSpec, chain: ImageChain | None, settings: Settings
    ) -> Array:
        """As `spark_bridge.rows.image_row`; a crash is the RowError ``NATIVE_CRASH``."""
        if value is None or isinstance(value, np.ndarray):
            return image_row(value, spec, chain, settings)  # nothing to decode
        with self._lock:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            try:
                write_message(process.stdin, (value, spec, chain, settings))
                found = read_message(process.stdout)
            except (EOFError, OSError):
                raise RowError("NATIVE_CRASH", "decode", self._ended(process)) from None
        if isinstance(found, RowError):
            raise found
        image: Array = found
        return image

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._ended(self._process)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__], env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        return self._process

    def _ended(self, process: subprocess.Popen[bytes]) -> str:
        """How the process ended; the next image gets a new one."""
        self._process = None
        for stream in (process.stdin, process.stdout):
            try:
                stream.close()  # type: ignore[union-attr]
            except OSError:
                continue  # what was under way to it is lost with it
        code = process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the decoder ended by {how} on this image"


decoder = Decoder()


def is_careful(settings: Settings) -> bool:
    """Whether this try of a task decodes in another process."""
    if settings.isolate != "auto":
        return settings.isolate == "always"
    context = TaskContext.get()
    return context is not None and context.attemptNumber() > 0


def write_message(stream: IO[bytes], message: Any) -> None:
    """Send one object."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def read_message(stream: IO[bytes]) -> Any:
    """Receive one object; EOFError where the other side has gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    return pickle.loads(stream.read(LENGTH.unpack(head)[0]))


def serve() -> None:
    """Answer each value until the other side closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints is no answer
    while True:
        try:
            message = read_message(sys.stdin.buffer)
        except EOFError:
            return
        try:
            write_message(answers, image_row(*message))
        except RowError as err:
            write_message(answers, err)


if __name__ == "__main__":
    serve()
