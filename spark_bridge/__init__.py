"""Spark adapters of lwaccel: predictions as a DataFrame column or on an RDD.

from spark_bridge import local_session, predict
spark = local_session()
images = spark.read.format("binaryFile").load("photos")
predict(images, "model.int8.onnx", backend="cpu").select("path", "prediction.label").show()
"""

from __future__ import annotations

from spark_bridge.crops import detect_crop_features
from spark_bridge.dataframe import predict
from spark_bridge.frames import read_frames
from spark_bridge.image_stream import watch_images
from spark_bridge.images import read_images
from spark_bridge.measure import Measurement, measure
from spark_bridge.nearest import nearest
from spark_bridge.progress import progress
from spark_bridge.query import choose_device
from spark_bridge.rdd import map_partitions
from spark_bridge.session import local_session
from spark_bridge.ship import ModelRef, ship
from spark_bridge.sinks import write_batches, write_once
from spark_bridge.sql import register

__all__ = [
    "Measurement",
    "ModelRef",
    "choose_device",
    "detect_crop_features",
    "local_session",
    "map_partitions",
    "measure",
    "nearest",
    "predict",
    "progress",
    "read_frames",
    "read_images",
    "register",
    "ship",
    "watch_images",
    "write_batches",
    "write_once",
]
