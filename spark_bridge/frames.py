"""Streaming sources `accel_frames` and `accel_nic`: images that senders bring over the network,
to this machine or to the port of a simulated card.

The reader lives in one Python process beside the driver, where it receives frames into a spool;
tasks read the spool. An offset is the number of a frame, so that a query that starts again from
its checkpoint reads the same frames again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadLimit, ReadMaxRows

from accel.errors import InputError
from spark_bridge.columns import binary, numbers, read_rows, text
from spark_bridge.inbox import frame_name
from spark_bridge.options import count, one_of, read_options
from spark_bridge.receiver import Receiver, Wire
from spark_bridge.spool import Spool, read_records

if TYPE_CHECKING:
    from spark_bridge.card_receiver import CardReceiver

NIC_CARD = "alveo-u280"
SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64()), ("content", pa.binary())])
DEFAULTS = {
    "mode": "listen",
    "ack": "none",
    "partitions": "2",
    "maxFramesPerTrigger": "4000",
    "maxFrameBytes": "64m",
    "segmentBytes": "64m",
    "spoolBytes": "1g",
    "card": "",
    "transport": "tcp",
}
COUNTS = ("partitions", "maxFramesPerTrigger", "maxFrameBytes", "segmentBytes", "spoolBytes")


def read_frames(
    spark: SparkSession,
    host: str,
    port: int,
    spool: str,
    *,
    mode: Literal["listen", "connect"] = "listen",
    ack: Literal["none", "each"] = "none",
    card: str = "",
    transport: Literal["tcp", "udp"] = "tcp",
    **options: object,
) -> DataFrame:
    """A stream of the frames that senders bring; see `spark_bridge.receiver` for the protocol.

    Parameters
    ----------
    host, port : where to listen, or the sender to connect to (again and again).
    spool : folder that keeps the frames until they are done, one for each checkpoint; every
        executor must reach it.
    ack : "each" answers a frame once it is safe on disk: a sender that waits for the answers
        loses nothing. "none" answers nothing: what was under way when a driver dies is lost.
    card : take them through the network port of this simulated card, such as "alveo-u280", which
        can only listen; the stream is the same. Over the `transport` "udp" nothing is answered.
    **options : partitions (2: tasks of a batch), maxFramesPerTrigger (4000), maxFrameBytes
        (64m), segmentBytes (64m), spoolBytes (1g: senders wait while more is not yet read).

    Returns
    -------
    Streaming DataFrame: name string, number long (0 for the first frame of the spool), content
    binary.

    Raises
    ------
    InputError
        A wrong option.
    """
    given = {"host": host, "port": port, "spoolDir": spool, "mode": mode, "ack": ack, "card": card,
             "transport": transport, **options}  # fmt: skip
    named = {name: str(value) for name, value in given.items()}
    _parsed(named)  # here, where the caller sees it
    source = NicSource if card else FrameSource
    spark.dataSource.register(source)
    return spark.readStream.format(source.name()).options(**named).load()


@dataclass(frozen=True)
class Options:
    """Checked options of the source."""

    wire: Wire
    spool: str
    counts: Mapping[str, int]


@dataclass
class Piece(InputPartition):
    """Frames of one segment for one task: bytes `start` to `stop` of `path`."""

    path: str
    number: int
    start: int
    stop: int


class FrameSource(DataSource):
    """Names the source and its columns."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "accel_frames"

    def schema(self) -> str:
        """Columns of a frame."""
        return "name string, number long, content binary"

    def streamReader(self, schema: object) -> FrameReader:
        """The reader Spark runs beside the driver."""
        return FrameReader(_parsed(self.options))


class NicSource(FrameSource):
    """The same frames through the network port of a simulated card."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "accel_nic"

    def streamReader(self, schema: object) -> FrameReader:
        """The reader Spark runs beside the driver."""
        return FrameReader(_parsed({"card": NIC_CARD, **self.options}))


class FrameReader(DataSourceStreamReader):
    """Receives beside the driver, and reads in tasks; only the options travel between."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._running: tuple[Spool, Receiver | CardReceiver] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_options": self._options, "_running": None}

    def initialOffset(self) -> dict[str, int]:
        """The oldest frame of the spool."""
        return {"frame": self._spool().first}

    def getDefaultReadLimit(self) -> ReadLimit:
        """At most maxFramesPerTrigger frames in a batch."""
        return ReadMaxRows(self._options.counts["maxFramesPerTrigger"])

    def latestOffset(self, start: dict[str, int], limit: ReadLimit) -> dict[str, int]:
        """The last frame on disk, within the limit."""
        spool = self._spool()
        spool.take(start["frame"])
        most = limit.max_rows if isinstance(limit, ReadMaxRows) else spool.end
        return {"frame": max(start["frame"], min(spool.end, start["frame"] + most))}

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> Sequence[Piece]:
        """Equal shares of the frames, cut where segments end."""
        low, high = start["frame"], end["frame"]
        share = max(1, -(-(high - low) // self._options.counts["partitions"]))
        spool = self._spool()
        shares = [(at, min(at + share, high)) for at in range(low, high, share)]
        return [Piece(*found) for at, stop in shares for found in spool.ranges(at, stop)]

    def read(self, partition: Piece) -> Iterator[pa.RecordBatch]:  # type: ignore[override]
        """Frames of one task, a few at a time."""
        records = read_records(partition.path, partition.start, partition.stop)
        number = partition.number
        step = read_rows(self._options.counts["maxFrameBytes"])
        while rows := list(islice(records, step)):
            names, contents = zip(*rows, strict=True)
            counted = np.arange(number, number + len(rows), dtype=np.int64)
            columns = [text(map(frame_name, names)), numbers(counted), binary(contents)]
            yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
            number += len(rows)

    def commit(self, end: dict[str, int]) -> None:
        """Spark will not ask for these frames again."""
        self._spool().forget(end["frame"])

    def stop(self) -> None:
        """Close the connections; frames not yet read stay in the spool."""
        if self._running is not None:
            spool, receiver = self._running
            receiver.stop()
            spool.close()
            self._running = None

    def _spool(self) -> Spool:
        """The spool, with a receiver that fills it."""
        if self._running is None:
            counts = self._options.counts
            spool = Spool(self._options.spool, counts["segmentBytes"], counts["spoolBytes"])
            try:
                self._running = spool, _receiver(self._options.wire, spool)
            except BaseException:
                spool.close()
                raise
        return self._running[0]


def _receiver(wire: Wire, spool: Spool) -> Receiver | CardReceiver:
    if wire.card is None:
        return Receiver(wire, spool)
    from spark_bridge.card_receiver import CardReceiver  # brings the simulated card

    return CardReceiver(wire, spool)


def _parsed(given: Mapping[str, str]) -> Options:
    found = read_options(FrameSource.name(), given, ("host", "port", "spoolDir"), DEFAULTS)
    listen = one_of("mode", found["mode"], ("listen", "connect")) == "listen"
    acknowledge = one_of("ack", found["ack"], ("none", "each")) == "each"
    transport = one_of("transport", found["transport"], ("tcp", "udp"))
    counts = {name: count(name, found[name]) for name in (*COUNTS, "port")}
    if counts["port"] > 65535:
        raise InputError(f"port is {counts['port']}; expected 1 to 65535")
    if found["card"]:
        _check_card(found["card"], listen, acknowledge, transport)
    elif transport == "udp":
        raise InputError("transport is 'udp', which needs the port of a card: pass card=")
    wire = Wire(found["host"], counts["port"], listen, acknowledge, counts["maxFrameBytes"],
                found["card"] or None, "udp" if transport == "udp" else "tcp")  # fmt: skip
    return Options(wire, found["spoolDir"], counts)


def _check_card(name: str, listen: bool, acknowledge: bool, transport: str) -> None:
    from accel.fpga import load_profile

    if "nic.line_rate" not in load_profile(name):
        raise InputError(f"card {name!r} has no network port; choose another, such as {NIC_CARD!r}")
    if not listen:
        raise InputError("a card's port only listens; leave out mode='connect'")
    if acknowledge and transport == "udp":
        raise InputError("ack is 'each', but UDP has no way back; take transport='tcp'")
