"""A sender of frames that keeps what is not answered and sends it again on a new connection."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from spark_bridge.spool import HEADER

ENDLESS = 1 << 31
WINDOW = 256  # frames under way without an answer


class Sender:
    """Sends frames 0, 1, 2 ... in a thread, named by their number, until told to finish.

    Parameters
    ----------
    contents : gives the content of frames 0 to its argument.
    pause_s : between two frames.

    Attributes
    ----------
    answered : frames that are safe: 0 to this number.
    """

    def __init__(
        self, port: int, contents: Callable[[int], Iterator[bytes]], pause_s: float = 0.002
    ) -> None:
        self.answered = 0
        self._port, self._pause_s = port, pause_s
        self._fresh = enumerate(contents(ENDLESS))
        self._unanswered: deque[bytes] = deque()
        self._finishing = self._stopped = False
        threading.Thread(target=self._work, daemon=True).start()

    def finish(self) -> bool:
        """Send nothing new; whether all is answered."""
        self._finishing = True
        return self._stopped

    def stop(self) -> None:
        """End at once."""
        self._stopped = True

    def _work(self) -> None:
        while not self._stopped:
            try:
                with socket.create_connection(("127.0.0.1", self._port)) as connection:
                    self._exchange(connection)
            except OSError:
                time.sleep(0.05)

    def _exchange(self, connection: socket.socket) -> None:
        for frame in self._unanswered:
            connection.sendall(frame)
        with connection.makefile("rb") as answers:
            while not self._stopped:
                if len(self._unanswered) == WINDOW or self._finishing:
                    if not self._unanswered:
                        self._stopped = True
                        return
                    self._take(answers.read(8))
                else:
                    number, content = next(self._fresh)
                    name = str(number).encode()
                    self._unanswered.append(HEADER.pack(name, len(content)) + content)
                    connection.sendall(self._unanswered[-1])
                    time.sleep(self._pause_s)

    def _take(self, answer: bytes) -> None:
        if len(answer) < 8:
            raise ConnectionError("the stream closed the connection")
        number = struct.unpack(">Q", answer)[0]
        assert number == self.answered, f"answer {number} where {self.answered} was due"
        self._unanswered.popleft()
        self.answered += 1


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
