"""Devices: the card Spark gave to the task, opened as the settings say."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyspark
import pytest
from pyspark import TaskContext
from pyspark.resource import ResourceInformation
from pyspark.sql import SparkSession

import accel
from accel.errors import DeviceError
from spark_bridge import choose_device, devices, predict
from spark_bridge.session import QUICK_START
from spark_bridge.settings import Settings


def task_with_cards(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let the code under test believe that it runs in a task with these cards."""

    class Task:
        def resources(self) -> dict[str, ResourceInformation]:
            return {"fpga": ResourceInformation("fpga", list(addresses))}

    monkeypatch.setattr(TaskContext, "get", classmethod(lambda cls: Task()))


def test_device_name_task_with_a_card_takes_that_card(monkeypatch: pytest.MonkeyPatch) -> None:
    task_with_cards(monkeypatch, "3", "4")
    assert devices.device_name("fpga") == "fpga:3"
    assert devices.device_name("fpga:1") == "fpga:1"
    assert devices.device_name("cpu") == "cpu"
    assert devices.open_device(Settings("fpga")).name == "fpga:3"


def test_device_name_card_without_a_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task_with_cards(monkeypatch, "0000:65:00.1")
    with pytest.raises(DeviceError, match=r"given the card '0000:65:00\.1'"):
        devices.device_name("fpga")


def test_open_device_card_is_that_of_the_settings() -> None:
    device: Any = devices.open_device(Settings("fpga", fpga_card="alveo-u280"))
    assert device.driver.card.profile.name == "alveo-u280"
    with pytest.raises(Exception, match="no-such-card"):
        devices.open_device(Settings("fpga", fpga_card="no-such-card"))


def test_choose_device_settles_auto(spark: SparkSession, cnn: accel.Model) -> None:
    assert choose_device(spark, cnn) == "cpu"
    assert choose_device(spark, cnn, "auto") in ("cpu", "mkl", "openvino", "onnxruntime")


def test_predict_card_setting_reaches_the_workers(
    spark: SparkSession, cnn: accel.Model, files: list[bytes]
) -> None:
    df = spark.createDataFrame([(f,) for f in files], "content binary")
    expected = predict(df, cnn, backend="cpu").collect()
    spark.conf.set("spark.accel.fpga.card", "alveo-u280")
    try:
        assert predict(df, cnn, backend="fpga").collect() == expected
        spark.conf.set("spark.accel.fpga.card", "no-such-card")
        with pytest.raises(Exception, match="no-such-card"):
            predict(df, cnn, backend="fpga")
    finally:
        spark.conf.unset("spark.accel.fpga.card")


def test_held_card_second_task_waits_for_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task_with_cards(monkeypatch, "7")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    order: list[str] = []

    def second() -> None:
        with devices.held_card("fpga"):
            order.append("second")

    with devices.held_card("fpga"):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.2)
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]
    with devices.held_card("cpu"), devices.held_card("fpga:1"):
        assert [path.name for path in tmp_path.iterdir()] == ["lwaccel-fpga-7.lock"]


JOB = """
import sys
from accel.demo import digits_model, digits_test
from spark_bridge import local_session, predict
spark = local_session("local-cluster[2,1,1024]", conf={
    "spark.executor.memory": "1g", "spark.executor.extraJavaOptions": sys.argv[2],
    "spark.executor.resource.fpga.amount": "1", "spark.task.resource.fpga.amount": "1",
    "spark.worker.resource.fpga.amount": "1",
    "spark.worker.resource.fpga.discoveryScript": sys.argv[1],
})
rows = [(image.tobytes(),) for image in digits_test()[0][:64]]
df = spark.createDataFrame(rows, "content binary").repartition(2)
query = predict(df, digits_model().quantize(), kind="tensor", backend="fpga", meta=True)
print(*sorted(row.prediction.meta.device for row in query.collect()))
spark.stop()
"""
DISCOVER = """#!/bin/sh
# The first worker to ask gets card 0, the next one card 1.
if mkdir "$0.0" 2>/dev/null; then card=0; else card=1; fi
echo "{\\"name\\": \\"fpga\\", \\"addresses\\": [\\"$card\\"]}"
"""


def test_predict_on_a_cluster_with_cards_gives_each_task_its_own(tmp_path: Path) -> None:
    script = tmp_path / "cards"
    script.write_text(DISCOVER)
    script.chmod(0o755)
    env = os.environ | {
        "SPARK_HOME": os.path.dirname(pyspark.__file__),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(script), QUICK_START], env=env, capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"fpga:0", "fpga:1"} and len(done.stdout.split()) == 64
