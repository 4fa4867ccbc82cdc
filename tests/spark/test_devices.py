"""Devices: the card Spark gave to the task, opened as the settings say."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark import TaskContext
from pyspark.resource import ResourceInformation
from pyspark.sql import SparkSession

import accel
from accel.errors import DeviceError
from spark_bridge import choose_device, devices, predict
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
