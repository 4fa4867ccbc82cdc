"""Spark adapters of lwaccel: predictions as a DataFrame column or on an RDD.

from spark_bridge import local_session, predict
spark = local_session()
images = spark.read.format("binaryFile").load("photos")
predict(images, "model.int8.onnx", backend="cpu").select("path", "prediction.label").show()
"""

from __future__ import annotations

from spark_bridge.dataframe import predict
from spark_bridge.rdd import map_partitions
from spark_bridge.session import local_session
from spark_bridge.ship import ModelRef, ship

__all__ = ["ModelRef", "local_session", "map_partitions", "predict", "ship"]
