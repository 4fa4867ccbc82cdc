"""What an image, a task, a batch and a model cost, and where more executors stop helping.

    .venv/bin/python bench/spark_cost.py --output build/spark_cost.md

Measures the costs on this machine, then carries them to clusters whose executors have `--cores`
cores and whose machines have a network of `--gbit`. See docs/scaling.md, which holds the result.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import pyarrow as pa
from processes import cpu_s
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType
from spark_work import CHAIN, build, files_df, paths_df, photos

from spark_bridge import local_session, predict
from spark_bridge.arrow import map_in_arrow

ROUNDS = 3
TASKS = 200
BATCHES = 8
EXECUTORS = (1, 10, 100, 1000)


@dataclass(frozen=True)
class Costs:
    """Seconds of a processor, seconds of the driver, and bytes."""

    image_s: float  # a path: read, decode, compute
    jvm_s: float  # more where the file comes through a column
    image_bytes: float
    job_s: float  # from the call to the result of an empty task
    task_s: float  # more for each further empty task
    batch_s: float  # of a stream: to plan it, and to log its beginning and its end
    model_bytes: int

    def lines(self) -> list[str]:
        """The costs as Markdown."""
        return [
            "| cost | measured |", "|---|---|",
            f"| an image from a path, decoded, computed | {self.image_s * 1e3:.2f} ms of a core |",
            f"| more through a binary column | {self.jvm_s * 1e6:.0f} us of a core |",
            f"| bytes of an image | {self.image_bytes / 1e3:.1f} KB |",
            f"| a job of one empty task | {self.job_s * 1e3:.0f} ms |",
            f"| each further task | {self.task_s * 1e3:.2f} ms of the driver |",
            f"| a batch of a stream, beside its job | {self.batch_s * 1e3:.0f} ms of the driver |",
            f"| the model, and as much for its program | {self.model_bytes / 1e6:.1f} MB |",
        ]  # fmt: skip


def measure(spark: SparkSession, folder: Path, images: int, network: str) -> Costs:
    """Costs of this machine."""
    int8 = build(network, folder)[1]
    paths = photos(images, folder)
    names, files = paths_df(spark, paths, 2), files_df(spark, paths, 2)
    crossing = map_in_arrow(files, _ids, StructType([files.schema["id"]]))
    bare = map_in_arrow(names, _ids, StructType([names.schema["id"]]))
    one = _wall(lambda: spark.range(0, 1, 1, 1).collect())
    many = _wall(lambda: spark.range(0, TASKS, 1, TASKS).collect())
    return Costs(
        image_s=_cpu(_labels(names, int8)) / images,
        jvm_s=max(0.0, _cpu(crossing.collect) - _cpu(bare.collect)) / images,
        image_bytes=mean(Path(path).stat().st_size for path in paths),
        job_s=one,
        task_s=(many - one) / (TASKS - 1),
        batch_s=_batch_s(spark, folder),
        model_bytes=int8.stat().st_size,
    )


def table(costs: Costs, cores: int, gbit: float, task_images: int) -> list[str]:
    """One line a size of the cluster; network and driver as a share of what they can do."""
    lines = [
        "| executors | images/s | network of each | network of the driver, as its spool "
        "| driver, to start tasks | model to all, s | full first |",
        "|---|---|---|---|---|---|---|",
    ]
    wire = gbit / 8 * 1e9
    for executors in EXECUTORS:
        rate = executors * cores / costs.image_s
        read = rate * costs.image_bytes / wire
        shares = {"network of the driver, for a stream of frames": read,
                  "driver": rate / task_images * costs.task_s}  # fmt: skip
        name, most = max(shares.items(), key=lambda share: share[1])
        ship = executors * 2 * costs.model_bytes / wire
        lines.append(
            f"| {executors:,} | {rate:,.0f} | {read / executors:.1%} | {read:.0%} "
            f"| {shares['driver']:.1%} | {ship:.2f} | {name if most > 1 else 'the cores'} |"
        )
    return lines


def _labels(paths: DataFrame, model: Path) -> Callable[[], object]:
    return predict(paths, model, kind="path", chain=CHAIN).select("prediction.label").collect


def _ids(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What crosses Java comes, and is not looked at."""
    return (batch.select(["id"]) for batch in batches)


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


def _batch_s(spark: SparkSession, folder: Path) -> float:
    """Median time of the batches of an empty stream that is not spent in their jobs."""
    ticks = spark.readStream.format("rate").option("rowsPerSecond", 1000).load()
    writer = ticks.writeStream.format("noop").option("checkpointLocation", str(folder / "ticks"))
    query = writer.start()
    while sum(bool(p.numInputRows) for p in query.recentProgress) < BATCHES:
        assert query.isActive, query.exception()
        time.sleep(0.1)
    query.stop()
    took = [p.durationMs for p in query.recentProgress if p.numInputRows]
    return median(ms["triggerExecution"] - ms["addBatch"] for ms in took) / 1e3


def main() -> None:
    """Measure, and print the costs and the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--network", default="MobileNetV1-0.25", help="or ResNet-50")
    parser.add_argument("--cores", type=int, default=8, help="of an executor")
    parser.add_argument("--gbit", type=float, default=10, help="network of a machine, Gbit/s")
    parser.add_argument("--task-images", type=int, default=2000, help="images of a task")
    parser.add_argument("--output", type=Path, default=Path("build/spark_cost.md"))
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # of the processes made here
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(prefix="lwaccel-bench-") as folder:
        spark = local_session("local[2]", app="cost")
        costs = measure(spark, Path(folder), options.images, options.network)
        spark.stop()
    carried = table(costs, options.cores, options.gbit, options.task_images)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join([*costs.lines(), "", *carried, ""]))
    print(options.output.read_text())
    print(f"an image: {costs.image_s * 1e3:.2f} ms; tables in {options.output}")


if __name__ == "__main__":
    main()
