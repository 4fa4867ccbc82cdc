"""Classify images in a Spark job, on the device you name.

    python examples/classify_job.py --backend cpu
    python examples/classify_job.py --backend openvino --model net.onnx --input photos
    spark-submit --master spark://host:7077 examples/classify_job.py --backend mkl --input photos

Without --model and --input it reads handwriting with the model inside the package.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from jobs import parser, reported, session
from pyspark.sql import DataFrame, Row, SparkSession

import accel
from accel.demo import digits_model, digits_test
from accel.errors import InputError
from accel.images import ImageChain
from accel.samples import load_input, read_labels
from spark_bridge import choose_device, measure, predict, progress, read_images

INT8_DEVICES = ("cpu", "mkl", "fpga", "auto")  # they take quantized models only


@dataclass(frozen=True)
class Images:
    """What is classified: a DataFrame with `path` and `content`, and the truth where known."""

    df: DataFrame
    kind: str
    labels: dict[str, int]


@dataclass(frozen=True)
class Expected:
    """Predictions made without Spark: logits (N, classes) float32 and top1 (N,) int64."""

    device: str
    logits: npt.NDArray[np.float32]
    top1: npt.NDArray[np.int64]


@reported
def main(arguments: Sequence[str] | None) -> int:
    """Run the job; 0 for success, 1 where --expect finds a difference, 2 for a wrong request."""
    options = parse(arguments)
    expected = read_expected(options.expect) if options.expect else None
    if expected is not None and options.backend not in (None, expected.device):
        raise InputError(f"{options.expect} holds predictions of device {expected.device!r}, "
                         f"not {options.backend!r}; leave out --backend")  # fmt: skip
    if options.backend:
        accel.device(options.backend)  # before the seconds a session takes
    with session(options.master, "classify_job") as spark:
        return classify(spark, options, expected)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    given = parser(__doc__)
    add = given.add_argument
    add("--model", help="ONNX file; default: the digits model inside the package")
    add("--input", help="folder of images, or .npz with `image` and `label`; default: digits")
    add("--labels", help="CSV with the columns file and class_index")
    add("--batch-size", type=int, help="rows computed at once; default 32")
    add("--partitions", type=int, help="Spark tasks; default: one for each core")
    add("--mean", type=numbers, default=(0.0,), help="for a float32 model: subtracted, as 0.5,0.5")
    add("--std", type=numbers, default=(1.0,), help="for a float32 model: divided by")
    add("--scale", type=float, default=255.0, help="for a float32 model: pixels are divided by it")
    add("--order", choices=("rgb", "bgr"), default="rgb", help="channel order the model wants")
    add("--resize", type=int, help="shorter side of each image, in pixels")
    add("--crop", type=int, help="side of the square cut out of the middle")
    add("--expect", type=Path, help="predictions saved by `accel demo --save`, to compare with")
    return given.parse_args(arguments)


def numbers(text: str) -> tuple[float, ...]:
    """Read "0.5,0.5,0.5"."""
    return tuple(float(part) for part in text.split(","))


def classify(spark: SparkSession, options: argparse.Namespace, expected: Expected | None) -> int:
    """Predict, summarise, and compare where asked to."""
    backend = expected.device if expected else options.backend
    chain = None
    if options.resize or options.crop:
        chain = ImageChain(resize=options.resize, crop=options.crop)
    model = open_model(spark, options, backend)
    images = open_images(spark, options, chain)
    device = choose_device(spark, model, backend)
    query = partial(predict, model=model, kind=images.kind, backend=device,
                    batch_size=options.batch_size, chain=chain)  # fmt: skip
    start_s = start_workers(spark, query)
    ready = time.perf_counter()
    measured, found = measure(query(images.df, meta=True))
    with progress(spark, "classify_job"):
        rows = measured.select("path", "prediction").collect()
    job_s = time.perf_counter() - ready
    print(f"{model.name} ({'int8' if model.is_quantized else 'float32'}) on device {device}, "
          f"Spark {spark.version} on {spark.sparkContext.master}")  # fmt: skip
    print(found)
    summarise(rows, images.labels, start_s, job_s)
    return compare(query(images.df, task="raw").collect(), expected) if expected else 0


def open_model(
    spark: SparkSession, options: argparse.Namespace, backend: str | None
) -> accel.Model:
    """The model, taking uint8 images, quantized where the device needs it."""
    model = accel.load(options.model) if options.model else digits_model()
    if options.model and model.inputs[0].dtype == np.float32 and len(model.inputs[0].shape) == 4:
        model = model.with_preprocessing(options.mean, options.std, options.scale, options.order)
    name = backend or spark.conf.get("spark.accel.backend", None) or "cpu"
    if not model.is_quantized and name.partition(":")[0] in INT8_DEVICES:
        print(f"{model.name}: quantized to int8, without calibration data")
        model = model.quantize()
    return model


def open_images(
    spark: SparkSession, options: argparse.Namespace, chain: ImageChain | None
) -> Images:
    """The digits, an archive of arrays, or a folder of image files."""
    if options.input and Path(options.input).is_dir():
        df = read_images(spark, options.input, partitions=options.partitions)
        return Images(df, "image", read_labels(options.labels) if options.labels else {})
    if options.input:
        samples = load_input(options.input, labels=options.labels, chain=chain)
        x, labels = samples.x, samples.labels
    else:
        x, labels = digits_test()
    rows = [(f"{i:08d}", array.tobytes()) for i, array in enumerate(x)]
    df = spark.createDataFrame(rows, "path string, content binary")
    truth = {} if labels is None else {f"{i:08d}": int(label) for i, label in enumerate(labels)}
    return Images(df.repartition(options.partitions) if options.partitions else df, "tensor", truth)


def start_workers(spark: SparkSession, query: Callable[[DataFrame], DataFrame]) -> float:
    """Start a Python worker on each core and let it compile the model: on rows without content.

    Returns the seconds it took.
    """
    start = time.perf_counter()
    cores = spark.sparkContext.defaultParallelism
    query(
        spark.range(cores, numPartitions=cores).selectExpr("cast(null as binary) content")
    ).collect()
    return time.perf_counter() - start


def summarise(rows: list[Row], labels: dict[str, int], start_s: float, job_s: float) -> None:
    """Say how many rows are right, and how fast they came."""
    known = [row for row in rows if row.path in labels]
    if known:
        right = sum(row.prediction.label == labels[row.path] for row in known)
        print(f"  accuracy   {right / len(known):.2%} ({right} of {len(known)})")
    print(f"  speed      {len(rows) / job_s:,.0f} images/s ({job_s:.2f} s, after {start_s:.1f} s "
          "to start the workers and compile the model)")  # fmt: skip


def read_expected(path: Path) -> Expected:
    """Read predictions saved by `accel demo --save`.

    Raises
    ------
    InputError
        The file is missing or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as saved:
            return Expected(str(saved["device"]), saved["logits"], saved["top1"])
    except (OSError, KeyError, ValueError, BadZipFile) as err:
        raise InputError(f"cannot read predictions from {path}: {err}; make the file with: "
                         f"accel demo --save {path}") from None  # fmt: skip


def compare(rows: list[Row], expected: Expected) -> int:
    """Compare the outputs of every row with those made without Spark, bit for bit."""
    found = {row.path: row.prediction.tensors for row in rows}
    different = max(0, len(rows) - len(expected.logits))
    for i, logits in enumerate(expected.logits):
        tensors = found.get(f"{i:08d}") or []
        same = [bytes(t.data) for t in tensors] == [logits.astype("<f4").tobytes()]
        different += not (same and int(np.argmax(logits)) == expected.top1[i])
    if different:
        print(f"{different} of {len(expected.logits)} rows differ from the predictions made "
              "without Spark")  # fmt: skip
        return 1
    print(f"{len(rows)} rows from Spark equal the predictions of `accel demo` bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
