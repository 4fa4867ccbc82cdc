"""Classify the frames that senders bring over TCP, each once, also over a restart.

    python examples/stream_job.py --port 9000 --folder stream
    python examples/send_frames.py --port 9000           # in another terminal

It reads handwriting with the model inside the package. Under --folder it keeps the spool, the
checkpoint and the results, so that a job that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jobs import parser, reported, session
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from accel.demo import digits_model
from accel.errors import AccelError
from spark_bridge import predict, read_frames, write_batches

POLL_S = 0.2


@reported
def main(arguments: Sequence[str] | None) -> int:
    """Run until --frames are written or the job is interrupted; 2 for a wrong request."""
    given = parser(__doc__)
    add = given.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=9000)
    add("--folder", default="stream", help="spool, checkpoint and results")
    add("--frames", type=int, help="end when this many came in all runs; default: never")
    options = given.parse_args(arguments)
    with suppress(KeyboardInterrupt), session(options.master, "stream_job") as spark:
        run(spark, options)
    return 0


def run(spark: SparkSession, options: argparse.Namespace) -> None:
    """Start the stream and wait for its end."""
    folder = Path(options.folder).resolve()
    frames = read_frames(spark, options.host, options.port, str(folder / "spool"), ack="each")
    predicted = predict(frames, digits_model().quantize(), backend=options.backend)
    table = predicted.select("name", "number", "prediction.label", "prediction.error")
    query = write_batches(table, str(folder / "results"), str(folder / "checkpoint"))
    print(f"listening on {options.host}:{options.port}", flush=True)
    while query.isActive and (options.frames is None or written(query) < options.frames):
        time.sleep(POLL_S)
    failure = query.exception()
    query.stop()
    if failure is not None:
        raise AccelError(f"the stream ended: {failure}")
    summarise(spark, folder)


def written(query: StreamingQuery) -> int:
    """Frames of the spool that are done, those of earlier runs too."""
    progress = query.lastProgress
    if progress is None:
        return 0
    return int(json.loads(progress.sources[0].endOffset)["frame"])


def summarise(spark: SparkSession, folder: Path) -> None:
    """Say how many frames were written, and how many could not be read."""
    results = spark.read.parquet(str(folder / "results"))
    errors = results.where("error is not null").count()
    print(f"{results.count()} frames in {folder / 'results'}, {errors} with an error")


if __name__ == "__main__":
    sys.exit(main())
