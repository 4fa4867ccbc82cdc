"""The Python of docs/spark.md runs, in its order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import pytest
from pyspark.sql import SparkSession

import spark_bridge
from accel.demo import digits_test

PAGE = Path(__file__).resolve().parents[2] / "docs" / "spark.md"


def test_spark_page_examples_run(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    images, labels = digits_test()
    for i, image in enumerate(images[:6]):
        cv2.imwrite(str(photos / f"{i}.png"), image)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(spark_bridge, "local_session", lambda master: spark)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    try:
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    finally:
        spark.conf.unset("spark.accel.backend")
    assert len(blocks) == 10
    found = {path: prediction.label for path, prediction in names["pairs"]}
    assert found == {f"{i}.png": label for i, label in enumerate(labels[:6].tolist())}
