"""What an image, a task, a job and a model cost, and where more executors stop helping.

    .venv/bin/python bench/spark_cost.py

Measures the costs on this machine, then carries them to clusters whose executors have `--cores`
cores and whose machines have a network of `--gbit`. See docs/scaling.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from processes import cpu_s
from pyspark.sql import DataFrame, SparkSession
from spark_work import CHAIN, build, files_df, paths_df, photos

from spark_bridge import local_session, predict

ROUNDS = 3
TASKS = 200


@dataclass(frozen=True)
class Costs:
    """Seconds of a processor, seconds of the driver, and bytes."""

    image_s: float  # a path: read, decode, compute
    jvm_s: float  # more where the file comes through a column
    image_bytes: float
    job_s: float  # from the call to the result of an empty task
    task_s: float  # more for each further empty task
    model_bytes: int


def measure(spark: SparkSession, folder: Path, images: int, network: str) -> Costs:
    """Costs of this machine."""
    int8 = build(network, folder)[1]
    paths = photos(images, folder)
    tables = {"path": paths_df(spark, paths, 2), "image": files_df(spark, paths, 2)}
    by_kind = {kind: _cpu(_labels(df, int8, kind)) / images for kind, df in tables.items()}
    one = _wall(lambda: spark.range(0, 1, 1, 1).collect())
    many = _wall(lambda: spark.range(0, TASKS, 1, TASKS).collect())
    return Costs(
        image_s=by_kind["path"],
        jvm_s=max(0.0, by_kind["image"] - by_kind["path"]),
        image_bytes=mean(Path(path).stat().st_size for path in paths),
        job_s=one,
        task_s=(many - one) / (TASKS - 1),
        model_bytes=int8.stat().st_size,
    )


def table(costs: Costs, cores: int, gbit: float, task_images: int) -> str:
    """One line a size of the cluster; network and driver as a share of what they can do."""
    lines = [
        "| executors | images/s | MB/s read by each | of the driver's network, as its spool "
        "| of the driver, to start tasks | model shipped, s |",
        "|---|---|---|---|---|---|",
    ]
    wire = gbit / 8 * 1e9
    for executors in (1, 10, 100, 1000):
        rate = executors * cores / costs.image_s
        read = rate * costs.image_bytes
        driver = rate / task_images * costs.task_s
        ship = executors * costs.model_bytes / wire
        lines.append(f"| {executors:,} | {rate:,.0f} | {read / executors / 1e6:.0f} | "
                     f"{read / wire:.0%} | {driver:.1%} | {ship:.2f} |")  # fmt: skip
    return "\n".join(lines)


def _labels(df: DataFrame, model: Path, kind: str) -> Callable[[], object]:
    return predict(df, model, kind=kind, chain=CHAIN).select("prediction.label").collect


def _cpu(run: Callable[[], object]) -> float:
    """Median processor seconds of Java and the workers, the first time left out."""
    run()
    found = []
    for _ in range(ROUNDS):
        before = cpu_s()
        run()
        found.append(cpu_s() - before)
    return median(found)


def _wall(run: Callable[[], object]) -> float:
    run()
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return median(found)


def main() -> None:
    """Measure, and print the costs and the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--network", default="MobileNetV1-0.25", help="or ResNet-50")
    parser.add_argument("--cores", type=int, default=8, help="of an executor")
    parser.add_argument("--gbit", type=float, default=10, help="network of a machine, Gbit/s")
    parser.add_argument("--task-images", type=int, default=2000, help="images of a task")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="lwaccel-bench-") as folder:
        spark = local_session("local[2]", app="cost")
        costs = measure(spark, Path(folder), options.images, options.network)
        spark.stop()
    print(f"an image: {costs.image_s * 1e3:.2f} ms of a core, and {costs.jvm_s * 1e6:.0f} us more "
          f"through a column; {costs.image_bytes / 1e3:.1f} KB\na job: {costs.job_s * 1e3:.0f} ms, "
          f"and {costs.task_s * 1e3:.2f} ms for each task; the model: "
          f"{costs.model_bytes / 1e6:.1f} MB\n")  # fmt: skip
    print(table(costs, options.cores, options.gbit, options.task_images))


if __name__ == "__main__":
    main()
