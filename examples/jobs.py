"""What the example jobs share: options, a session, and one line for a wrong request."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps

from pyspark.sql import SparkSession

from accel.errors import AccelError
from spark_bridge import local_session

Main = Callable[[Sequence[str] | None], int]


def parser(
    doc: str | None, backends: str = "cpu, mkl, openvino, onnxruntime, fpga or auto"
) -> argparse.ArgumentParser:
    """A parser with --backend (none where `backends` is empty) and --master."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if backends:
        made.add_argument("--backend", help=f"{backends}; default: the setting "
                          "spark.accel.backend, else cpu")  # fmt: skip
    made.add_argument("--master", default="local[2]",
                      help="Spark master, where spark-submit does not set it")  # fmt: skip
    return made


@contextmanager
def session(master: str, app: str) -> Iterator[SparkSession]:
    """The session of spark-submit, or a local one; stopped at the end."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        spark = SparkSession.builder.getOrCreate()
    else:
        print(f"starting Spark on {master}: this takes a few seconds", flush=True)
        spark = local_session(master, app=app)
    try:
        yield spark
    finally:
        spark.stop()


def reported(main: Main) -> Callable[..., int]:
    """`main` that says in one line what cannot be done, and returns 2."""

    @wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        try:
            return main(arguments)
        except AccelError as err:
            print(f"error: {err}", file=sys.stderr)
            return 2

    return run
