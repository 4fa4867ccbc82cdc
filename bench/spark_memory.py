"""Private memory that a large model costs a Python worker."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from processes import descendants, private_bytes
from pyspark.sql import SparkSession

import accel
from spark_bridge import predict

WIDTH, LARGE, SMALL = 3200, 10, 1  # layers of 10 MB in int8
REPEATS = 8


def extra_bytes(spark: SparkSession) -> tuple[int, int]:
    """Most that the large model costs a worker beyond a small one; and the large model's size."""
    small, large = dense(SMALL, 64), dense(LARGE, WIDTH)
    before = _use(spark, small, 64)
    after = _use(spark, large, WIDTH)
    both = before.keys() & after.keys()
    assert both, "no worker served both models"
    return max(after[pid] - before[pid] for pid in both), len(large.to_bytes())


def dense(layers: int, width: int) -> accel.Model:
    """Layers of `width` x `width` with ReLU between, int8, float32 (N, width) to (N, width)."""
    rng = np.random.default_rng(0)
    nodes, weights, x = [], [], "x"
    for i in range(layers):
        values = rng.standard_normal((width, width), np.float32) / np.sqrt(width)
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("MatMul", [x, f"w{i}"], [f"m{i}"], f"matmul{i}"))
        nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"], f"relu{i}"))
        x = f"r{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", width]) for n in ("x", x)]
    graph = helper.make_graph(nodes, "dense", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return accel.load(model.SerializeToString()).quantize()


def _use(spark: SparkSession, model: accel.Model, width: int) -> dict[int, int]:
    """Predict on all workers several times; then the private memory of each, by process id."""
    row = np.ones(width, np.float32).tobytes()
    df = spark.createDataFrame([(row,)] * 64, "content binary").repartition(2).cache()
    query = predict(df, model, kind="tensor", task="features", batch_size=8)
    for _ in range(REPEATS):
        assert query.where("prediction.error is null").count() == 64
    df.unpersist()
    return {
        worker.pid: private_bytes(worker.pid)
        for worker in descendants()
        if "pyspark.daemon" in worker.command
    }
