"""Tune a stream: trigger interval x partitions x executors x cores against throughput and delay.

    .venv/bin/python bench/spark_scaling.py --output build/spark_scaling

Images come at a constant rate (`--rate` a second, MobileNetV1-0.25). A row of the table is one
stream: what it got done, and how long an image waits from its arrival to the end of its batch:
half the time between two batches, and the batch. Writes a table (.md), the figures (.json) and a
picture (.png). About six minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import product
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import pyspark
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.listener import StreamingQueryProgress
from pyspark.sql.streaming.query import StreamingQuery
from spark_work import CHAIN, build, photos

from spark_bridge import local_session, predict
from spark_bridge.session import QUICK_START

CLUSTERS = {(1, 1): "local[1]", (1, 2): "local[2]", (2, 1): "local-cluster[2,1,1024]"}
PARTITIONS = (1, 2, 4)
TRIGGERS_S = (1.0, 2.0, 4.0)  # the source gives a second of images at a time
WARM_UP_BATCHES = 2


@dataclass(frozen=True)
class Point:
    """One stream; `delay_s` counts from an image's arrival to the end of its batch."""

    executors: int
    cores: int
    partitions: int
    trigger_s: float
    images_per_s: float
    delay_s: float
    batches: int


def measure(spark: SparkSession, model: str, shape: tuple[int, int], partitions: int,
            trigger_s: float, options: argparse.Namespace) -> Point:  # fmt: skip
    """Run one stream for a while."""
    files = F.array(*map(F.lit, photos(100, Path(options.folder))))
    ticks = spark.readStream.format("rate").option("rowsPerSecond", options.rate)
    paths = ticks.option("numPartitions", partitions).load().select(
        F.element_at(files, (F.col("value") % 100 + 1).cast("int")).alias("content"))  # fmt: skip
    labels = predict(paths, model, kind="path", chain=CHAIN).select("prediction.label")
    with tempfile.TemporaryDirectory(dir=options.folder) as checkpoint:
        writer = labels.writeStream.format("noop").option("checkpointLocation", checkpoint)
        query = writer.trigger(processingTime=f"{int(trigger_s * 1000)} milliseconds").start()
        started = time.monotonic()
        while not _is_seen(query, time.monotonic() - started, options.seconds):
            assert query.isActive, query.exception()
            time.sleep(0.1)
        query.stop()
        batches = [p for p in query.recentProgress if p.numInputRows]
    return Point(*shape, partitions, trigger_s, *_rate_and_delay(batches, trigger_s))


def _is_seen(query: StreamingQuery, elapsed_s: float, seconds: float) -> bool:
    """Enough batches after some time; after twice the time, where they grow longer, one batch."""
    batches = sum(bool(p.numInputRows) for p in query.recentProgress)
    enough = WARM_UP_BATCHES + 2 if elapsed_s < 2 * seconds else 1
    return elapsed_s > seconds and batches >= enough


def _rate_and_delay(
    batches: Sequence[StreamingQueryProgress], trigger_s: float
) -> tuple[float, float, int]:
    """Images a second, seconds from an image's arrival to the end of its batch, and batches.

    A batch alone counts from one trigger to the next, or as long as it takes.
    """
    settled = batches[WARM_UP_BATCHES:] or batches[-1:]
    starts = [_seconds(batch.timestamp) for batch in settled]
    took = [batch.durationMs["triggerExecution"] / 1000 for batch in settled]
    period = (
        (starts[-1] - starts[0]) / (len(starts) - 1) if len(starts) > 1 else max(took[0], trigger_s)
    )
    rows = sum(batch.numInputRows for batch in settled)
    rate = rows / (starts[-1] - starts[0] + max(took[-1], period))
    return round(rate, 1), round(period / 2 + median(took), 3), len(settled)


def run_cluster(options: argparse.Namespace) -> None:
    """All streams of one cluster; one JSON line each."""
    executors, cores = options.cluster
    os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
    conf = {"spark.executor.memory": "1g", "spark.executor.extraJavaOptions": QUICK_START}
    spark = local_session(CLUSTERS[executors, cores], app="scaling", conf=conf)
    model = str(build("MobileNetV1-0.25", Path(options.folder))[1])
    for partitions, trigger in product(options.partitions, options.triggers):
        point = measure(spark, model, (executors, cores), partitions, trigger, options)
        print(json.dumps(asdict(point)), flush=True)
    spark.stop()


def table(points: Sequence[Point]) -> str:
    """Markdown, one line a stream."""
    lines = ["| executors | cores of each | partitions | trigger, s | images/s | delay, s |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    lines += [
        f"| {p.executors} | {p.cores} | {p.partitions} | {p.trigger_s:g} | {p.images_per_s:,.0f} "
        f"| {p.delay_s:.2f} |"
        for p in points
    ]
    return "\n".join(lines) + "\n"


def draw(points: Sequence[Point], rate: float, path: Path) -> None:
    """Throughput above, delay below; a column a cluster, a line a number of partitions."""
    clusters = list(dict.fromkeys((p.executors, p.cores) for p in points))
    counts = sorted({p.partitions for p in points})
    plt.switch_backend("Agg")
    figure, axes = plt.subplots(2, len(clusters), figsize=(3.4 * len(clusters), 5.6),
                                squeeze=False, sharex=True, sharey="row")  # fmt: skip
    for column, (executors, cores) in zip(axes.T, clusters, strict=True):
        for i, count in enumerate(counts):
            shape = (executors, cores, count)
            line = [p for p in points if (p.executors, p.cores, p.partitions) == shape]
            style = {"color": f"C{i}", "marker": "os^D"[i % 4], "linewidth": 1.5,
                     "label": f"{count} partition{'s' * (count > 1)}"}  # fmt: skip
            triggers = [p.trigger_s for p in line]
            column[0].plot(triggers, [p.images_per_s for p in line], **style)
            column[1].plot(triggers, [p.delay_s for p in line], **style)
        column[0].set_title(f"{executors} executor{'s' * (executors > 1)} of {cores} "
                            f"core{'s' * (cores > 1)}", fontsize=10)  # fmt: skip
        column[0].axhline(rate, color="black", linewidth=1, linestyle="--", label="as they come")
        column[1].set_xlabel("trigger interval, s")
        column[1].set_xticks(sorted({p.trigger_s for p in points}))
        for axis in column:
            axis.set_ylim(
                bottom=0, top=max(1.1 * rate, axis.get_ylim()[1]) if axis is column[0] else None
            )
            axis.grid(axis="y", linewidth=0.5, color="0.9")
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("images/s")
    axes[1][0].set_ylabel("delay of an image, s")
    labels = axes[0][0].get_legend_handles_labels()
    figure.legend(*labels, loc="lower center", ncols=len(labels[1]), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=130)


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def main() -> None:
    """Run every cluster in a process of its own, then write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/spark_scaling"))
    parser.add_argument("--rate", type=int, default=1000, help="images a second")
    parser.add_argument("--seconds", type=float, default=8, help="of each stream")
    parser.add_argument("--partitions", type=int, nargs="+", default=PARTITIONS)
    parser.add_argument("--triggers", type=float, nargs="+", default=TRIGGERS_S)
    parser.add_argument("--cluster", type=int, nargs=2, help="executors and cores; default: all")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        options.cluster = tuple(options.cluster)
        return run_cluster(options)
    points = []
    with tempfile.TemporaryDirectory(prefix="lwaccel-bench-") as folder:
        for cluster in [options.cluster] if options.cluster else CLUSTERS:
            command = [sys.executable, *sys.argv, "--folder", folder, "--cluster"]
            done = subprocess.run([*command, *map(str, cluster)], stdout=subprocess.PIPE,
                                  text=True, check=True)  # fmt: skip
            points += [Point(**json.loads(line)) for line in done.stdout.splitlines()]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(json.dumps([asdict(p) for p in points]))
    options.output.with_suffix(".md").write_text(table(points))
    draw(points, options.rate, options.output.with_suffix(".png"))
    print(table(points))
    most = max(points, key=lambda point: point.images_per_s)
    print(f"at most {most.images_per_s:,.0f} images/s; table and picture in {options.output}.*")


if __name__ == "__main__":
    main()
