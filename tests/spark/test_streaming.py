"""predict on a stream: the same predictions, batch after batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyspark.sql import SparkSession

import accel
from spark_bridge import predict


def test_predict_stream_equals_the_program_over_all_batches(
    spark: SparkSession, cnn: accel.Model, files: list[bytes], pixels: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    schema = "path string, modificationTime timestamp, length long, content binary"
    stream = spark.readStream.schema(schema).format("binaryFile").load(str(folder))
    predicted = predict(stream, cnn)
    assert predicted.isStreaming
    table = predicted.selectExpr("substring_index(path, '/', -1) file", "prediction.*")
    for batch in (range(10), range(10, 25)):
        for i in batch:
            (folder / f"{i}.png").write_bytes(files[i])
        query = (
            table.writeStream.format("parquet")
            .option("path", str(tmp_path / "out"))
            .option("checkpointLocation", str(tmp_path / "checkpoint"))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
    rows = spark.read.parquet(str(tmp_path / "out")).collect()
    scores = accel.device("cpu").compile(cnn).run(pixels[:25])
    found = {row.file: (row.label, row.score) for row in rows}
    assert len(rows) == 25
    assert found == {f"{i}.png": (int(s.argmax()), float(s.max())) for i, s in enumerate(scores)}
