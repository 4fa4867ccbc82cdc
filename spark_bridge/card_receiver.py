"""Take frames from the network port of a simulated card into a spool.

The same frames over the same wire as `spark_bridge.receiver`, over TCP or UDP: bytes go from the
socket into card memory, and from there into the spool.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from accel.fpga import Card, Ingest
from accel.fpga.ingest import Frame
from spark_bridge.receiver import GROUP, RETRY_S, WINDOW, Identity, Wire, identity
from spark_bridge.spool import Spool

log = logging.getLogger("spark_bridge.frames")


class CardReceiver:
    """A thread that empties the card until `stop`.

    Raises
    ------
    CardError
        The card has no network port.
    OSError
        The port to listen on is taken.
    """

    def __init__(self, wire: Wire, spool: Spool) -> None:
        assert wire.card is not None
        self._wire, self._spool = wire, spool
        self._stopped = threading.Event()
        self._known: OrderedDict[Identity, int] = OrderedDict()
        if wire.acknowledge:
            for number, name, data in spool.tail(WINDOW):
                self._known[identity(name, data)] = number
        self._ingest = Ingest(
            Card(wire.card, trace=False), wire.transport, wire.host, wire.port,
            max_frame_bytes=wire.max_frame_bytes,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._work, daemon=True, name="accel-nic")
        self._thread.start()

    def stop(self) -> None:
        """Close the port; frames still in card memory were not answered."""
        self._stopped.set()
        self._ingest.close()
        self._thread.join(RETRY_S)  # it may wait for room in the spool, which closes next

    def _work(self) -> None:
        with self._ingest as ingest:
            while not self._stopped.is_set():
                first = next(ingest.frames(RETRY_S), None)
                if first is not None:
                    try:
                        self._keep([first, *islice(ingest.frames(0), GROUP - 1)])
                    except OSError as err:
                        if not self._stopped.is_set():
                            log.error("no more frames are taken: %s", err)
                        return

    def _keep(self, frames: Sequence[Frame]) -> None:
        """Write the frames, make them safe, then answer them."""
        numbers = [self._number(frame) for frame in frames]
        self._spool.sync(durable=self._wire.acknowledge)
        for frame, number in zip(frames, numbers, strict=True):
            if self._wire.acknowledge:
                frame.answer(number)
            frame.release()

    def _number(self, frame: Frame) -> int:
        """The number of a frame: the old one for what is here already and sent again."""
        name, data = frame.name.encode(), frame.read()
        if not self._wire.acknowledge:
            return self._spool.append([(name, data)]).start
        known = identity(name.ljust(28, b"\0"), data)
        if known not in self._known:
            self._known[known] = self._spool.append([(name, data)]).start
            if len(self._known) > WINDOW:
                self._known.popitem(last=False)
        return self._known[known]
