"""Tune a stream: trigger interval x partitions x executors x cores against throughput and delay.

    .venv/bin/python bench/spark_scaling.py --output build/spark_scaling

Images come at a constant rate (`--rate` a second, MobileNetV1-0.25). A row of the table is one
stream: what it got done, and how long an image waits from its arrival to the end of its batch:
half the time between two batches, and the batch. Writes a table (.md), the figures (.json) and a
picture (.png).
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
from spark_work import CHAIN, build, photos

from spark_bridge import local_session, predict
from spark_bridge.session import QUICK_START

CLUSTERS = {(1, 1): "local[1]", (1, 2): "local[2]", (2, 1): "local-cluster[2,1,1024]"}
PARTITIONS = (1, 2, 4)
TRIGGERS_S = (0.0, 0.5, 2.0)
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
        deadline = time.monotonic() + options.seconds
        while time.monotonic() < deadline or len(query.recentProgress) < WARM_UP_BATCHES + 2:
            assert query.isActive, query.exception()
            time.sleep(0.1)
        query.stop()
        batches = [p for p in query.recentProgress if p.numInputRows][WARM_UP_BATCHES - 1 :]
    starts = [_seconds(batch.timestamp) for batch in batches]
    took = [batch.durationMs["triggerExecution"] / 1000 for batch in batches]
    rows = sum(batch.numInputRows for batch in batches[1:])
    elapsed = starts[-1] + took[-1] - starts[0] - took[0]
    period = (starts[-1] - starts[0]) / (len(starts) - 1)
    return Point(*shape, partitions, trigger_s, round(rows / elapsed, 1),
                 round(period / 2 + median(took), 3), len(batches))  # fmt: skip


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
    plt.switch_backend("Agg")
    figure, axes = plt.subplots(2, len(clusters), figsize=(3.6 * len(clusters), 6), squeeze=False,
                                sharex=True, sharey="row")  # fmt: skip
    counts = sorted({p.partitions for p in points})
    shades = plt.colormaps["viridis"]
    for column, cluster in enumerate(clusters):
        for i, count in enumerate(counts):
            line = [p for p in points if (p.executors, p.cores) == cluster
                    and p.partitions == count]  # fmt: skip
            style = {"color": shades(0.85 * i / max(1, len(counts) - 1)), "marker": "o",
                     "label": f"{count} partition{'s' * (count > 1)}"}  # fmt: skip
            triggers = [p.trigger_s for p in line]
            axes[0][column].plot(triggers, [p.images_per_s for p in line], **style)
            axes[1][column].plot(triggers, [p.delay_s for p in line], **style)
        executors, cores = cluster
        axes[0][column].set_title(f"{executors} executor{'s' * (executors > 1)} of {cores} "
                                  f"core{'s' * (cores > 1)}", fontsize=10)  # fmt: skip
        axes[0][column].axhline(rate, color="black", linewidth=1, linestyle="--")
        axes[1][column].set_xlabel("trigger interval, s (0: at once)")
    axes[0][0].set_ylabel("images/s (dashed: as they come)")
    axes[1][0].set_ylabel("delay of an image, s")
    for row in axes:
        for axis in row:
            axis.set_ylim(bottom=0)
            axis.spines[["top", "right"]].set_visible(False)
    axes[1][-1].legend(fontsize=8)
    figure.tight_layout()
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
