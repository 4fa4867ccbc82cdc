"""Many small batches of a stream: memory of every Python process, and bytes of the spool.

    .venv/bin/python bench/spark_batches.py --count 1000

Ends with 1 where either is not bounded.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from frame_sender import Sender, free_port
from processes import descendants
from spark_faults import digits, predicted

from spark_bridge import local_session, read_frames

MAX_GROWTH_BYTES = 32 << 20
MAX_SPOOL_BYTES = 1 << 20


def run(count: int) -> int:
    """Memory of every Python process and bytes of the spool, over many small batches."""
    with tempfile.TemporaryDirectory(prefix="lwaccel-faults-") as folder:
        spark = local_session("local[2]", app="faults")
        port = free_port()
        frames = read_frames(spark, "127.0.0.1", port, f"{folder}/spool", ack="each",
                             maxFramesPerTrigger=8, segmentBytes="64k",
                             spoolBytes="256k")  # fmt: skip
        table = predicted(frames.selectExpr("cast(name as int) as id", "content"))
        query = table.writeStream.format("noop").option(
            "checkpointLocation", f"{folder}/checkpoint").start()  # fmt: skip
        sender = Sender(port, digits)
        seen: list[tuple[int, int, int]] = []
        try:
            while not seen or seen[-1][0] < count:
                time.sleep(1)
                assert query.isActive, query.exception()
                last = query.lastProgress
                batch = last.batchId if last else 0
                if batch and (not seen or batch >= seen[-1][0] + count // 10):
                    seen.append((batch, _python_bytes(), _folder_bytes(Path(folder, "spool"))))
                    held, spool = seen[-1][1] / 1e6, seen[-1][2] / 1e6
                    print(f"batch {batch}: Python {held:.0f} MB, spool {spool:.2f} MB", flush=True)
        finally:
            sender.stop()
            query.stop()
            spark.stop()
    settled = seen[len(seen) // 5 :]
    growth = settled[-1][1] - settled[0][1]
    spool = max(held for _, _, held in seen)
    print(f"batches: {seen[-1][0]} batches, Python processes grew by {growth / 1e6:.1f} MB after "
          f"batch {settled[0][0]}, spool at most {spool / 1e6:.2f} MB", flush=True)  # fmt: skip
    return int(growth > MAX_GROWTH_BYTES or spool > MAX_SPOOL_BYTES)


def _python_bytes() -> int:
    """Resident bytes of all Python processes of this job."""
    pids = [os.getpid(), *(p.pid for p in descendants() if "pyspark" in p.command
                           and not p.command.split()[0].endswith("java"))]  # fmt: skip
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * 4096


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    sys.exit(run(parser.parse_args().count))
