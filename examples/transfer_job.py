"""Teach a network new classes with a folder of labelled images, without training its body.

    python examples/transfer_job.py
    python examples/transfer_job.py --input photos --model net.onnx --output new.int8.onnx

Images lie in a folder named by their class: ``photos/cat/1.jpg``. Spark ML trains a head on the
features of the quantized network; head and network become one Model. Without arguments the network
that reads digits learns to tell odd from even.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence

from digit_files import write_digits
from jobs import parser, reported, session
from pyspark.ml.classification import LogisticRegression
from pyspark.sql import SparkSession

import accel
from accel.demo import digits_model
from accel.errors import InputError
from accel.head import without_head
from spark_bridge import measure, predict, read_images
from spark_bridge.head import HeadClassifier
from spark_bridge.transformer import AccelFeaturizer

DIGITS = 400
SEED = 0


@reported
def main(arguments: Sequence[str] | None) -> int:
    """Train, fuse, test and save; 0 for success, 2 for a wrong request."""
    given = parser(__doc__, "cpu, mkl or fpga")
    add = given.add_argument
    add("--input", help="folder of folders of images; default: odd and even digits")
    add("--model", help="fp32 ONNX file that takes uint8 images; default: digits")
    add("--features", help="name of the value to take as features; default: before the last layer")
    add("--test", type=float, default=0.25, help="share of the images kept to test with")
    add("--output", default="new.int8.onnx", help="model to write")
    options = given.parse_args(arguments)
    if not 0 < options.test < 1:
        raise InputError(f"--test is {options.test}; expected a share between 0 and 1")
    with session(options.master, "transfer_job") as spark, tempfile.TemporaryDirectory() as folder:
        if options.input is None:
            write_digits(folder, DIGITS, odd_or_even=True)
        run(spark, options, options.input or folder)
    return 0


def run(spark: SparkSession, options: argparse.Namespace, folder: str) -> None:
    """Train on one part of the images and test the fused model on the other."""
    model = (accel.load(options.model) if options.model else digits_model()).quantize()
    body = without_head(model, options.features)
    images = read_images(spark, folder, label="dir").drop("error")
    train, test = images.randomSplit([1 - options.test, options.test], SEED)
    features = AccelFeaturizer(body, backend=options.backend).transform(train).cache()
    head = HeadClassifier(estimator=LogisticRegression(maxIter=50, regParam=0.01)).fit(features)
    fused = head.fuse(body)
    fused.save(options.output)
    tested, summary = measure(
        predict(test, fused, labels=head.labels, backend=options.backend, meta=True)
    )
    rows = tested.select("label", "prediction").collect()
    right = sum(row.label == row.prediction.name for row in rows)
    print(f"trained on {features.count()} images of {', '.join(head.labels or ())}")
    print(f"{summary}\n  accuracy   {right / max(1, len(rows)):.2%} ({right} of {len(rows)})")
    print(f"  written    {options.output}: takes images, gives {fused.outputs[0].name}")


if __name__ == "__main__":
    sys.exit(main())
