"""Ask questions about images in SQL.

    python examples/sql_job.py
    python examples/sql_job.py --input photos --model net.onnx --query \\
        "SELECT path, classify(content)[0].class AS class FROM images"

The table ``images`` has path, length and content; ``classify(content)`` gives the most probable
classes, each with class, description and probability.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence

from digit_files import write_digits
from jobs import parser, reported, session
from pyspark.sql import SparkSession

import accel
from accel.demo import digits_model
from spark_bridge import read_images, register

QUERIES = (
    "SELECT path, inline(classify(content)) FROM images ORDER BY path, probability DESC LIMIT 6",
    "SELECT best.class, count(*) AS images, round(avg(best.probability), 3) AS mean_probability "
    "FROM (SELECT classify(content)[0] AS best FROM images) GROUP BY best.class ORDER BY class",
)
DIGITS = 200


@reported
def main(arguments: Sequence[str] | None) -> int:
    """Run the queries; 0 for success, 2 for a wrong request."""
    given = parser(__doc__)
    given.add_argument("--input", help="folder of images; default: digits")
    given.add_argument("--model", help="quantized ONNX file that takes images; default: digits")
    given.add_argument("--top-k", type=int, default=3)
    given.add_argument("--query", action="append", help="default: two that show what can be asked")
    options = given.parse_args(arguments)
    with session(options.master, "sql_job") as spark, tempfile.TemporaryDirectory() as folder:
        if options.input is None:
            write_digits(folder, DIGITS)
        run(spark, options, options.input or folder)
    return 0


def run(spark: SparkSession, options: argparse.Namespace, folder: str) -> None:
    """Make the table and the function, and print what each query gives."""
    model = accel.load(options.model) if options.model else digits_model().quantize()
    read_images(spark, folder).createOrReplaceTempView("images")
    register(spark, "classify", model, top_k=options.top_k, backend=options.backend)
    for query in options.query or QUERIES:
        print(query)
        spark.sql(query).show(truncate=False)


if __name__ == "__main__":
    sys.exit(main())
