"""Say on the driver how far a long job is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from pyspark.sql import SparkSession

from spark_bridge.session import is_connect

EVERY_S = 10.0
Tasks = tuple[int, int]  # done, all


@contextmanager
def progress(
    spark: SparkSession, name: str, every_s: float = EVERY_S, stream: TextIO | None = None
) -> Iterator[None]:
    """Print ``name: 12 of 40 tasks, 31 s`` while jobs run in this block.

    Parameters
    ----------
    every_s : time between two lines; a job that ends sooner prints none.
    stream : default: standard error.
    """
    ended = threading.Event()
    started = time.monotonic()
    tasks, close = _counter(spark)

    def say() -> None:
        while not ended.wait(every_s):
            done, all_ = tasks()
            if all_:
                seconds = time.monotonic() - started
                print(f"{name}: {done} of {all_} tasks, {seconds:.0f} s",
                      file=stream or sys.stderr, flush=True)  # fmt: skip

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        close()


def _counter(spark: Any) -> tuple[Callable[[], Tasks], Callable[[], None]]:
    """A function that counts the tasks of what runs now, and one that ends its counting."""
    if is_connect(spark):
        latest: list[Tasks] = [(0, 0)]

        def handler(stages: Any, inflight_tasks: int, operation_id: Any, done: bool) -> None:
            counted = [(stage.num_completed_tasks, stage.num_tasks) for stage in stages or ()]
            latest[0] = (0, 0) if done else _sum(counted)

        spark.registerProgressHandler(handler)
        return lambda: latest[0], lambda: spark.removeProgressHandler(handler)
    tracker = spark.sparkContext.statusTracker()

    def active() -> Tasks:
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        return _sum([(s.numCompletedTasks, s.numTasks) for s in stages if s is not None])

    return active, lambda: None


def _sum(counts: list[Tasks]) -> Tasks:
    return sum(done for done, _ in counts), sum(all_ for _, all_ in counts)
