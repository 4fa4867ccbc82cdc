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
from pyspark.sql import SparkSession

import accel
from accel.demo import digits_model
from accel.errors import AccelError
from spark_bridge import local_session, read_images, register

QUERIES = (
    "SELECT path, inline(classify(content)) FROM images ORDER BY path, probability DESC LIMIT 6",
    "SELECT best.class, count(*) AS images, round(avg(best.probability), 3) AS mean_probability "
    "FROM (SELECT classify(content)[0] AS best FROM images) GROUP BY best.class ORDER BY class",
)
DIGITS = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the queries; 0 for success, 2 for a wrong request."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", help="folder of images; default: digits")
    parser.add_argument("--model", help="quantized ONNX file that takes images; default: digits")
    parser.add_argument("--top-k", type=int, default=3)
    parser.add_argument("--query", action="append", help="default: two that show what can be asked")
    parser.add_argument("--backend", help="cpu, mkl, openvino, onnxruntime, fpga or auto")
    parser.add_argument("--master", default="local[2]")
    options = parser.parse_args(arguments)
    try:
        spark = local_session(options.master, app="sql_job")
        try:
            with tempfile.TemporaryDirectory() as folder:
                if options.input is None:
                    write_digits(folder, DIGITS)
                run(spark, options, options.input or folder)
        finally:
            spark.stop()
    except AccelError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
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
