"""Kill parts of a Spark job, and count what was lost, doubled or changed.

    .venv/bin/python bench/spark_faults.py executor      # of a local cluster, in mid-job
    .venv/bin/python bench/spark_faults.py worker        # of a standalone cluster
    .venv/bin/python bench/spark_faults.py driver --points 20

Each prints one line and ends with 1 where a row is missing, doubled or has other bits.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pyspark
from frame_sender import Sender, free_port
from processes import descendants
from pyspark.sql import DataFrame, SparkSession

import accel
from accel.demo import digits_model, digits_test
from spark_bridge import local_session, predict, read_frames, write_batches
from spark_bridge.session import QUICK_START, java_home

ROWS, PARTITIONS = 6000, 60
EXECUTOR = "CoarseGrainedExecutorBackend"
CONF = {"spark.executor.memory": "1g", "spark.executor.extraJavaOptions": QUICK_START}
Found = tuple[int, float]  # label and score of a row


# ---- what is computed, and what must come out ----


def expected(count: int) -> list[Found]:
    """Label and score of rows 0 to `count`, from one process without Spark."""
    images, _ = digits_test()
    scores = accel.device("cpu").compile(digits_model().quantize(), batch_size=32).run(images)
    found = [(int(row.argmax()), float(row.max())) for row in np.asarray(scores)]
    return [found[i % len(found)] for i in range(count)]


def digits(count: int) -> Iterator[bytes]:
    """Rows 0 to `count` as raw pixels."""
    images, _ = digits_test()
    return (images[i % len(images)].tobytes() for i in range(count))


def judge(name: str, rows: Iterable[Any], count: int, note: str) -> int:
    """Compare rows of (id, label, score) with what must be; prints one line."""
    wanted = expected(count)
    found = list(rows)
    times = Counter(row.id for row in found)
    lost = count - sum(1 for i in range(count) if times[i])
    doubled = sum(n - 1 for n in times.values())
    changed = sum((row.label, row.score) != wanted[row.id] for row in found)
    print(f"{name}: {count} rows, {lost} lost, {doubled} doubled, {changed} changed; {note}",
          flush=True)  # fmt: skip
    return int(bool(lost or doubled or changed))


def predicted(df: DataFrame) -> DataFrame:
    """id, label, score."""
    table = predict(df, digits_model().quantize(), kind="tensor")
    return table.select("id", "prediction.label", "prediction.score")


# ---- executors and workers ----


def kill_executor(_: argparse.Namespace) -> int:
    """One of two executors of a local cluster dies in the middle of a job."""
    os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
    spark = local_session("local-cluster[2,1,1024]", app="faults", conf=CONF)
    try:
        return _survive(spark, "executor", lambda: _pids(EXECUTOR, "java"))
    finally:
        spark.stop()


def kill_worker(_: argparse.Namespace) -> int:
    """One of two workers of a standalone cluster dies in the middle of a job."""
    with tempfile.TemporaryDirectory(prefix="lwaccel-faults-") as folder, _cluster(folder) as url:
        spark = local_session(url, app="faults", conf=CONF)
        try:
            return _survive(spark, "worker", lambda: _pids("deploy.worker.Worker", "java"))
        finally:
            spark.stop()


def _survive(spark: SparkSession, name: str, pids: Callable[[], list[int]]) -> int:
    df = spark.createDataFrame(list(enumerate(digits(ROWS))), "id int, content binary")
    query = predicted(df.repartition(PARTITIONS))
    query.limit(1).collect()
    victims = pids()
    killer = threading.Thread(target=_kill_in_the_middle, args=(spark, victims[0]))
    killer.start()
    rows = query.collect()
    killer.join()
    assert len(victims) == 2 and victims[0] not in pids(), "the kill missed"
    return judge(name, rows, ROWS, f"1 of 2 {name}s killed")


def _kill_in_the_middle(spark: SparkSession, pid: int) -> None:
    """Kill once a twentieth of some stage's tasks is done."""
    tracker = spark.sparkContext.statusTracker()
    while True:
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        if any(s and PARTITIONS // 20 <= s.numCompletedTasks < s.numTasks - 2 for s in stages):
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.005)


def _pids(*words: str) -> list[int]:
    """Descendants whose command is the second word and holds the first."""
    text, program = words
    found = descendants()
    return [p.pid for p in found if text in p.command and p.command.split()[0].endswith(program)]


@contextmanager
def _cluster(folder: str) -> Iterator[str]:
    """A master and two workers of one core each; gives the master's URL."""
    port = free_port()
    url = f"spark://127.0.0.1:{port}"
    ends = ["--host", "127.0.0.1", "--webui-port", "0"]
    worker = ["worker.Worker", *ends, "-c", "1", "-m", "1g", "-d", folder, url]
    commands = [["master.Master", *ends, "--port", str(port)], worker, worker]
    env = os.environ | {
        "JAVA_HOME": str(java_home()),
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
        "SPARK_DAEMON_JAVA_OPTS": QUICK_START,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    started = []
    try:
        for name, *arguments in commands:
            command = [f"{env['SPARK_HOME']}/bin/spark-class",
                       f"org.apache.spark.deploy.{name}", *arguments]  # fmt: skip
            log = open(f"{folder}/{len(started)}.log", "w")  # noqa: SIM115, closed by the child's end
            started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log,
                                            start_new_session=True))  # fmt: skip
        yield url
    finally:
        for process in started:
            _kill_group(process)


# ---- the driver of a stream ----


def kill_driver(options: argparse.Namespace) -> int:
    """The driver of an acknowledged stream dies at random points; what it took stays, once."""
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="lwaccel-faults-") as folder:
        port = free_port()
        sender = Sender(port, digits)
        points = []
        for _ in range(options.points):
            driver = _serve(folder, port)
            before = sender.answered
            _wait(lambda before=before: sender.answered > before, driver)  # type: ignore[misc]
            points.append(rng.uniform(0, options.spread))
            time.sleep(points[-1])
            _kill_group(driver)
        driver = _serve(folder, port)
        _wait(sender.finish, driver)
        count = sender.answered
        _wait(lambda: _written(folder) >= count, driver)
        _kill_group(driver)
        table = pq.read_table(f"{folder}/results", columns=["id", "label", "score"])
    rows = [SimpleNamespace(**row) for row in table.to_pylist()]
    at = ", ".join(f"{point:.2f}" for point in points)
    return judge("driver", rows, count, f"driver killed {at} s after its first answer")


def serve(options: argparse.Namespace) -> int:
    """The job that `kill_driver` kills."""
    spark = local_session("local[2]", app="faults")
    frames = read_frames(spark, "127.0.0.1", options.port, f"{options.folder}/spool", ack="each",
                         maxFramesPerTrigger=200, segmentBytes="64k")  # fmt: skip
    table = predicted(frames.selectExpr("cast(name as int) as id", "content"))
    write_batches(table, f"{options.folder}/results", f"{options.folder}/checkpoint")
    spark.streams.awaitAnyTermination()
    return 1


def _serve(folder: str, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "serve", "--folder", folder, "--port", str(port)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)


def _written(folder: str) -> int:
    """Rows of the batches that are whole."""
    whole = Path(folder, "results").glob("batch_id=*/_SUCCESS")
    return sum(
        pq.read_metadata(f).num_rows for done in whole for f in done.parent.glob("*.parquet")
    )


def _wait(condition: Callable[[], bool], driver: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert driver.poll() is None, "the driver ended by itself"
        time.sleep(0.05)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started: Java, Python workers, the reader of frames."""
    with suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    for name, run in {"executor": kill_executor, "worker": kill_worker, "driver": kill_driver,
                      "serve": serve}.items():  # fmt: skip
        command = commands.add_parser(name, help=(run.__doc__ or "").split("\n")[0])
        command.set_defaults(run=run)
        if name == "driver":
            command.add_argument("--points", type=int, default=20)
            command.add_argument("--spread", type=float, default=4.0, help="seconds")
            command.add_argument("--seed", type=int, default=0)
        if name == "serve":
            command.add_argument("--folder", required=True)
            command.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    found: int = options.run(options)
    return found


if __name__ == "__main__":
    sys.exit(main())
