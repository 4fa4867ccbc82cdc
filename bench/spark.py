"""What Spark costs, row by row beside what it must not exceed.

    .venv/bin/python bench/spark.py                     # all rows, about 20 minutes
    .venv/bin/python bench/spark.py plain rdd --images 512 --rounds 1
    .venv/bin/python bench/spark.py executor streams --count 2    # faults, in small

Rates are compared within one run: the sides take turns, and the median of each is taken. Labels
are compared once before. Processor time tells the same on a machine that others use as well.
What is killed, and studies of their own, are the scripts beside this one, each in a process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from processes import cpu_s
from pyspark.sql import DataFrame
from spark_memory import extra_bytes
from spark_start import cold_start_s
from spark_tcp import frames_per_s
from spark_work import CHAIN, Plain, batch_udf, build, files_df, paths_df, photos

from spark_bridge import local_session, map_partitions, predict
from spark_bridge.arrow import map_in_arrow

BENCH = str(Path(__file__).resolve().parent)
Run = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One figure with its bound; `note` gives what it was made of."""

    name: str
    value: str
    must: str
    note: str = ""


@dataclass(frozen=True)
class Side:
    """Median seconds of one side, and median processor seconds of all processes."""

    wall_s: float
    cpu_s: float


class Bench:
    """What the rows share: files, networks, one session of two cores.

    Parameters
    ----------
    images : of a round of `predict` beside plain processes, through MobileNetV1-0.25. What is
        compared with slower ways takes half, ResNet-50 a 16th.
    count : times the driver is killed; a fiftieth of the batches of a long stream.
    """

    def __init__(self, folder: Path, images: int, rounds: int, count: int) -> None:
        self.folder, self.images, self.rounds, self.count = folder, images, rounds, count
        conf = {"spark.driver.memory": "4g"}  # holds the files of a binary column
        self.spark = local_session("local[2]", app="bench", conf=conf)

    def take_turns(self, sides: Mapping[str, Run]) -> dict[str, Side]:
        """Time every side `rounds` times, one after the other, each once before."""
        found: dict[str, list[Side]] = {name: [] for name in sides}
        for run in sides.values():
            run()
        for _ in range(self.rounds):
            for name, run in sides.items():
                cpu, started = cpu_s(), time.perf_counter()
                run()
                found[name].append(Side(time.perf_counter() - started, cpu_s() - cpu))
        return {name: _median(values) for name, values in found.items()}

    def plain(self, network: str, images: int) -> Iterator[Row]:
        """`predict` beside two processes without Spark."""
        _, int8 = build(network, self.folder)
        paths = photos(images, self.folder)
        pool = Plain(int8, 2)
        tables = {
            "paths": paths_df(self.spark, paths, 2),
            "binary column": files_df(self.spark, paths, 2),
        }
        sides: dict[str, Run] = {"plain": lambda: pool.run(paths)}
        same = map_in_arrow(tables["binary column"], iter, tables["binary column"].schema)
        sides["identity"] = same.select("id").collect
        for kind, (name, df) in zip(("path", "image"), tables.items(), strict=True):
            sides[name] = labels(predict(df, int8, kind=kind, chain=CHAIN))
        expected = pool.run(paths)
        assert all(sides[name]() == expected for name in tables)
        times = self.take_turns(sides)
        pool.close()
        for name, df in tables.items():
            df.unpersist()
            yield ratio(f"predict on {name} : 2 processes, {network}", times["plain"],
                        times[name], ">= 0.97", images)  # fmt: skip
        plain_s, same_s = times["plain"].cpu_s, times["identity"].cpu_s
        yield Row("what an identity function on the binary column leaves, by processor time",
                  f"{plain_s / (plain_s + same_s):.3f}", "",
                  f"it takes {same_s / images * 1e6:.0f} us an image")  # fmt: skip

    def peer(self, network: str, images: int, must: str) -> Iterator[Row]:
        """`predict` beside predict_batch_udf with ONNX Runtime in fp32, on the same column."""
        fp32, int8 = build(network, self.folder)
        df = files_df(self.spark, photos(images, self.folder), 2)
        udf = df.select("id", batch_udf(fp32)("content").alias("label"))
        ours = predict(df, int8, chain=CHAIN)
        times = self.take_turns({"udf": udf.collect, "predict": labels(ours)})
        df.unpersist()
        yield ratio(f"predict : predict_batch_udf fp32, {network}", times["udf"],
                    times["predict"], must, images)  # fmt: skip

    def rdd(self) -> Iterator[Row]:
        """The RDD adapter beside `predict`, both from bytes the JVM holds."""
        _, int8 = build("MobileNetV1-0.25", self.folder)
        images = max(2, self.images // 2)
        df = files_df(self.spark, photos(images, self.folder), 2)
        items = df.rdd.map(lambda row: bytes(row.content)).cache()
        mapped = items.mapPartitions(map_partitions(int8, chain=CHAIN)).map(lambda p: p.label)
        ours = labels(predict(df, int8, chain=CHAIN))
        assert sorted(mapped.collect()) == sorted(ours())  # type: ignore[call-overload]
        times = self.take_turns({"predict": ours, "rdd": mapped.collect})
        items.unpersist()
        df.unpersist()
        yield ratio("map_partitions on an RDD : predict", times["predict"], times["rdd"],
                    ">= 0.9", images)  # fmt: skip

    def partitions(self) -> Iterator[Row]:
        """One partition beside two, on two cores; and one process beside two."""
        _, int8 = build("MobileNetV1-0.25", self.folder)
        paths = photos(self.images, self.folder)
        pools = {count: Plain(int8, count) for count in (1, 2)}
        sides: dict[str, Run] = {}
        for count, pool in pools.items():
            table = paths_df(self.spark, paths, count)
            sides[str(count)] = labels(predict(table, int8, kind="path", chain=CHAIN))
            sides[f"plain {count}"] = lambda pool=pool: pool.run(paths)  # type: ignore[misc]
        times = self.take_turns(sides)
        for pool in pools.values():
            pool.close()
        row = ratio("2 partitions : 1", times["1"], times["2"], ">= 1.85", self.images)
        plain = times["plain 1"].wall_s / times["plain 2"].wall_s
        yield replace(row, note=f"{row.note}; 2 processes : 1 without Spark {plain:.3f}")

    def start(self) -> Iterator[Row]:
        """Cold start of a job, beside one with an identity function."""
        _, int8 = build("MobileNetV1-0.25", self.folder)
        path = photos(1, self.folder)[0]
        pairs = [(cold_start_s(None, path), cold_start_s(int8, path)) for _ in range(self.rounds)]
        identity, ours = (median(side) for side in zip(*pairs, strict=True))
        more = median(our - plain for plain, our in pairs)
        yield Row("first image of a new job above an identity function", f"{more:.2f} s",
                  "<= 0.6 s", f"{ours:.2f} s and {identity:.2f} s")  # fmt: skip

    def memory(self) -> Iterator[Row]:
        """Private memory that a model of 100 MB costs a worker."""
        extra, size = extra_bytes(self.spark)
        yield Row(f"USS of a worker for a model of {size / 1e6:.0f} MB",
                  f"{extra / 1e6:.1f} MB", "<= 10 MB")  # fmt: skip

    def tcp(self) -> Iterator[Row]:
        """Frames of 40 KB from a sender to the end of a stream that drops them."""
        frames_per_s(self.spark, "none", self.folder)  # the workers import, Java compiles
        for ack, must in (("none", 5000), ("each", 1000)):
            rates = [frames_per_s(self.spark, ack, self.folder) for _ in range(self.rounds)]
            yield Row(f"accel_frames, 40 KB, ack={ack}", f"{median(rates):,.0f} frames/s",
                      f">= {must:,}")  # fmt: skip

    def rows(self) -> dict[str, Callable[[], Iterator[Row]]]:
        """All rows by the name that the command line takes."""
        half, large = max(2, self.images // 2), max(32, self.images // 16)
        return {
            "plain": lambda: self.plain("MobileNetV1-0.25", self.images),
            "plain-resnet": lambda: self.plain("ResNet-50", large),
            "peer": lambda: self.peer("MobileNetV1-0.25", half, ">= 1.5"),
            "peer-resnet": lambda: self.peer("ResNet-50", large, ">= 3"),
            "rdd": self.rdd,
            "partitions": self.partitions,
            "start": self.start,
            "memory": self.memory,
            "tcp": self.tcp,
            "executor": lambda: beside("spark_faults.py executor"),
            "worker": lambda: beside("spark_faults.py worker"),
            "streams": lambda: beside(
                f"spark_faults.py driver --points {self.count}",
                f"spark_batches.py --count {50 * self.count}",
            ),
            "cost": lambda: beside(f"spark_cost.py --images {half}"),
            "scaling": lambda: beside(f"spark_scaling.py --seconds {self.count / 4:g}"),
        }


def labels(predicted: DataFrame) -> Run:
    """A job that brings the labels to the driver, in the order of the rows."""
    query = predicted.select("id", "prediction.label")
    return lambda: [row.label for row in sorted(query.collect())]


def beside(*commands: str) -> Iterator[Row]:
    """Run scripts of this folder at the same time; the last line of each is its figure."""
    started = []
    for command in commands:
        script, *options = command.split()
        started.append(subprocess.Popen([sys.executable, str(Path(BENCH, script)), *options],
                                        stdout=subprocess.PIPE, text=True))  # fmt: skip
    for command, process in zip(commands, started, strict=True):
        lines = process.communicate()[0].splitlines() or [""]
        outcome = f"ended with {process.returncode}"
        yield Row(command, lines[-1], "ends with 0", outcome)


def ratio(name: str, base: Side, other: Side, must: str, images: int) -> Row:
    """How much faster `other` is than `base`."""
    note = f"{images / other.wall_s:,.0f} images/s against {images / base.wall_s:,.0f}; "
    note += f"by processor time {base.cpu_s / other.cpu_s:.3f}"
    return Row(name, f"{base.wall_s / other.wall_s:.3f}", must, note)


def _median(sides: list[Side]) -> Side:
    return Side(median(s.wall_s for s in sides), median(s.cpu_s for s in sides))


def main() -> None:
    """Print one line a row, as Markdown."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # of the processes made here
    os.environ["PYTHONPATH"] = os.pathsep.join([BENCH, os.environ.get("PYTHONPATH", "")])
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", help="default: all")
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20, help="times the driver is killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lwaccel-bench-") as folder:
        bench = Bench(Path(folder), options.images, options.rounds, options.count)
        rows = bench.rows()
        unknown = sorted(set(options.rows) - set(rows))
        if unknown:
            sys.exit(f"unknown row {unknown[0]!r}; known: {', '.join(rows)}")
        print("| what | seen | must | |\n|---|---|---|---|", flush=True)
        for name in options.rows or rows:
            for row in rows[name]():
                print(f"| {row.name} | {row.value} | {row.must} | {row.note} |", flush=True)
        bench.spark.stop()


if __name__ == "__main__":
    main()
