"""Find the product on each image, cut it out, describe it, and write the features as Parquet.

    python examples/crop_job.py
    python examples/crop_job.py --input photos --detector yolo.onnx \\
        --description yolo-fastest-1.1 --featurizer net.onnx --output features.parquet

Each image is decoded once, and no pixels move between jobs. Without arguments the images are pages
with a handwritten digit on each; search_job.py finds the like among what this writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import cv2
from jobs import parser, reported, session
from pyspark.sql import DataFrame, SparkSession

import accel
from accel.demo import digits_model
from accel.demo_pages import ink_detector, pages
from accel.head import without_head
from spark_bridge import detect_crop_features, measure, progress, read_images

PAGES = 200
COLUMNS = ("x1", "y1", "x2", "y2", "score", "label", "name", "features", "dim")


@reported
def main(arguments: Sequence[str] | None) -> int:
    """Run the pipeline; 0 for success, 2 for a wrong request."""
    given = parser(__doc__)
    add = given.add_argument
    add("--input", help="folder of images; default: pages with a digit")
    add("--detector", help="fp32 ONNX file of a detector; default: one that finds ink")
    add("--description", help="name of a known detector, or a JSON file that describes it")
    add("--featurizer", help="fp32 ONNX file that takes uint8 images; its last layer is cut off")
    add("--output", default="features.parquet", help="folder to write")
    add("--pick", default="best", choices=("best", "all"), help="boxes of each image")
    add("--pad", type=float, default=0.0, help="share by which a box is widened on each side")
    options = given.parse_args(arguments)
    with session(options.master, "crop_job") as spark:
        run(spark, options)
    return 0


def run(spark: SparkSession, options: argparse.Namespace) -> None:
    """Find, cut out, describe, write; then say what was done."""
    detector = ink_detector()
    if options.detector:
        detector = accel.load(options.detector).as_detector(options.description)
    featurizer = accel.load(options.featurizer) if options.featurizer else digits_model()
    found = detect_crop_features(
        open_images(spark, options.input), detector.quantize(),
        without_head(featurizer.quantize()), pick=options.pick, pad=options.pad,
        backend=options.backend,
    )  # fmt: skip
    counted, summary = measure(found)
    crops = counted.selectExpr("path", "prediction.error", "explode_outer(prediction.crops) crop")
    table = crops.select("path", *(f"crop.{name}" for name in COLUMNS), "error")
    with progress(spark, "crop_job"):
        table.write.mode("overwrite").parquet(options.output)
    print(f"{summary}\n  written    {options.output}")
    spark.read.parquet(options.output).drop("features", "error").orderBy("path").show(5)


def open_images(spark: SparkSession, folder: str | None) -> DataFrame:
    """The images of a folder, or pages."""
    if folder is not None:
        return read_images(spark, folder)
    images, labels, _ = pages(PAGES)
    files = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    rows = [(f"{label}/{i:04d}.png", files[i]) for i, label in enumerate(labels.tolist())]
    return spark.createDataFrame(rows, "path string, content binary")


if __name__ == "__main__":
    sys.exit(main())
