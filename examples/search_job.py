"""Find the images that are most like others.

    python examples/search_job.py
    python examples/search_job.py --features features.parquet --query photos/cat/1.jpg -k 5

The features are those that crop_job.py wrote, or where none are given, those of handwriting. Each
query is a row of the same table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence

import numpy as np
from digit_files import write_digits
from jobs import parser, reported, session
from pyspark.sql import DataFrame, SparkSession

from accel.demo import digits_model
from accel.errors import InputError
from accel.head import without_head
from spark_bridge import nearest, predict, read_images

DIGITS = 600


@reported
def main(arguments: Sequence[str] | None) -> int:
    """Search; 0 for success, 2 for a wrong request."""
    given = parser(__doc__, backends="")
    add = given.add_argument
    add("--features", help="Parquet with path and features; default: those of digits")
    add("--query", action="append", help="path of a row; default: the first of each folder")
    add("-k", type=int, default=5, help="neighbours of each query")
    add("--index", default="brute", choices=("brute", "faiss"))
    add("--metric", default="cosine", choices=("cosine", "dot", "euclidean"))
    options = given.parse_args(arguments)
    with session(options.master, "search_job") as spark:
        run(spark, options)
    return 0


def run(spark: SparkSession, options: argparse.Namespace) -> None:
    """Print the neighbours of each query, and how many are from its own folder."""
    table = spark.read.parquet(options.features) if options.features else digits(spark)
    table = table.where("features IS NOT NULL").cache()
    paths = options.query or first_of_each_folder(table)
    named = {row.path: row.features for row in table.where(table.path.isin(paths)).collect()}
    missing = [path for path in paths if path not in named]
    if missing:
        raise InputError(f"no features of {missing[0]!r} in the table")
    vectors = np.stack([np.frombuffer(named[path], "<f4") for path in sorted(named)])
    found = nearest(table, vectors, options.k + 1, options.metric, options.index, id="path")
    summarise(sorted(named), found)


def first_of_each_folder(table: DataFrame) -> list[str]:
    """One path from every folder."""
    folders = table.selectExpr("substring_index(path, '/', 1) AS folder", "path").groupBy("folder")
    return [row[1] for row in folders.agg({"path": "min"}).collect()]


def digits(spark: SparkSession) -> DataFrame:
    """Features of handwriting: what the last layer of the digits model reads."""
    with tempfile.TemporaryDirectory() as folder:
        write_digits(folder, DIGITS)
        featurizer = without_head(digits_model().quantize())
        predicted = predict(read_images(spark, folder), featurizer, task="features")
        table = predicted.select("path", "prediction.features").cache()
        table.count()  # while the files are there
    return table


def summarise(paths: list[str], found: DataFrame) -> None:
    """Say what is near each query; a query itself does not count."""
    near: dict[str, list[str]] = {path: [] for path in paths}
    for row in found.orderBy("query", "rank").collect():
        if row.id != paths[row.query]:
            near[paths[row.query]].append(f"{row.id} ({row.score:.3f})")
    for path, others in near.items():
        print(f"{path}: {', '.join(others)}")
    same = [other.split("/")[0] == path.split("/")[0] for path in near for other in near[path]]
    print(f"{sum(same)} of {len(same)} neighbours are from the folder of their query")


if __name__ == "__main__":
    sys.exit(main())
