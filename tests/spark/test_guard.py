"""Guard: a device that fails is tried again, then replaced where that is allowed, and it shows."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

import accel
from accel.demo import digits_model, digits_test
from accel.errors import CardError, DeviceError, InputError
from spark_bridge import guard as guard_module
from spark_bridge import predict
from spark_bridge.guard import BREAKER, Breaker, Choice, Guard

X = {"x": np.zeros((1, 2), np.float32)}
Y = {"y": np.ones((1, 2), np.float32)}


class Program:
    """Fails, hangs or answers, as the list of what comes next says."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)

    def run(self, inputs: object) -> object:
        step = self.steps.pop(0) if self.steps else Y
        if isinstance(step, threading.Event):
            step.wait(60)
        if isinstance(step, Exception):
            raise step
        return Y


def choice(device: str, *steps: object, timeout_s: float | None = None) -> Choice:
    program = Program(*steps)
    return Choice(device, lambda: program, timeout_s=timeout_s)  # type: ignore[arg-type,return-value]


def test_guard_second_try_of_the_same_device_comes_before_another() -> None:
    guard = Guard([choice("fpga", CardError("stall")), choice("cpu")])
    assert guard.run(X) == (Y, "fpga")
    failing = Guard([choice("fpga", CardError("stall"), CardError("stall")), choice("cpu")])
    assert failing.run(X) == (Y, "cpu")


def test_guard_without_another_names_the_device_and_the_reason() -> None:
    guard = Guard([choice("fpga:3", CardError("fpga:3 hangs"), CardError("fpga:3 hangs"))])
    with pytest.raises(CardError, match=r"fpga:3 hangs; let another .* spark\.accel\.fallback"):
        guard.run(X)


def test_guard_hung_device_is_let_go_after_its_time() -> None:
    forgotten, forever = [], threading.Event()
    hung = Choice("fpga", lambda: Program(forever), lambda: forgotten.append(1), 0.05)  # type: ignore[arg-type,return-value]
    assert Guard([hung, choice("cpu")]).run(X) == (Y, "cpu")
    with pytest.raises(CardError, match=r"fpga gave no answer within 0\.05 s"):
        Guard([hung]).run(X)
    forever.set()
    assert len(forgotten) == 4


def test_guard_breaker_leaves_a_failing_device_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    card, breaker = choice("fpga", *[CardError("stall")] * BREAKER), Breaker()
    guard = Guard([card, choice("cpu")], breaker)
    assert [guard.run(X)[1] for _ in range(4)] == ["cpu"] * 4
    assert card.program().steps == []  # type: ignore[attr-defined]
    with pytest.raises(CardError, match="fpga failed 3 times in 60 s and is left alone"):
        Guard([card], breaker).run(X)
    now[0] += guard_module.WINDOW_S
    assert guard.run(X)[1] == "fpga"


def test_guard_device_that_is_not_there_is_tried_once() -> None:
    tries = []

    def missing() -> accel.Program:
        tries.append(1)
        raise DeviceError("openvino is not installed")

    guard = Guard([Choice("openvino", missing), choice("cpu")])
    assert guard.run(X) == (Y, "cpu") and len(tries) == 1
    with pytest.raises(CardError, match="openvino is not installed"):
        Guard([Choice("openvino", missing)]).run(X)


def test_guard_fault_of_the_input_is_not_the_devices() -> None:
    guard = Guard([choice("fpga", InputError("NaN")), choice("cpu")])
    with pytest.raises(InputError, match="NaN"):
        guard.run(X)


def test_predict_fallback_names_the_device_that_computed_a_row(spark: SparkSession) -> None:
    images, model = digits_test()[0][:256], digits_model().quantize()
    rows = [(image.tobytes(),) for image in images]
    df = spark.createDataFrame([*rows, (None,)], "content binary").coalesce(1)
    query = partial(predict, df, model, kind="tensor", batch_size=256)
    settings = {"spark.accel.fpga.card": "zcu104", "spark.accel.fpga.timeoutMs": "1"}
    for name, value in settings.items():  # no card computes a batch in one millisecond
        spark.conf.set(name, value)
    try:
        found = query(backend="fpga", fallback=["mkl", "cpu"]).collect()
        with pytest.raises(Exception, match=r"fpga gave no answer within 0\.001 s|left alone"):
            query(backend="fpga").collect()
    finally:
        for name in settings:
            spark.conf.unset(name)
    assert [row.prediction.meta.device for row in found] == ["mkl"] * len(images) + [None]
    plain = query(backend="cpu").collect()
    assert [row.prediction.label for row in found] == [row.prediction.label for row in plain]
    assert not hasattr(plain[0].prediction, "meta")


def test_predict_card_with_faults_is_replaced_or_named(
    spark: SparkSession, cnn: accel.Model, files: list[bytes]
) -> None:
    df = spark.createDataFrame([(f,) for f in files[:4]], "content binary").coalesce(1)
    expected = predict(df, cnn, backend="cpu", meta=True).collect()
    spark.conf.set("spark.accel.fpga.faults", "load_failure:1")
    try:
        found = predict(df, cnn, backend="fpga", fallback=["cpu"]).collect()
        with pytest.raises(Exception, match=r"loading failed|failed 3 times in 60 s"):
            predict(df, cnn, backend="fpga").collect()
        spark.conf.set("spark.accel.fpga.faults", "earthquake:1")
        with pytest.raises(InputError, match="earthquake"):
            predict(df, cnn, backend="fpga")
    finally:
        spark.conf.unset("spark.accel.fpga.faults")
    assert [row.prediction.meta.device for row in found] == ["cpu"] * 4
    assert [row.prediction.topk for row in found] == [row.prediction.topk for row in expected]


@pytest.mark.parametrize(
    ("fallback", "error", "message"),
    [(["gpu"], DeviceError, "'gpu' not found"), (["auto"], InputError, "names 'auto'")],
)
def test_predict_wrong_fallback_fails_before_the_job(
    spark: SparkSession, cnn: accel.Model, fallback: list[str], error: type, message: str
) -> None:
    df: DataFrame = spark.createDataFrame([(b"",)], "content binary")
    with pytest.raises(error, match=message):
        predict(df, cnn, fallback=fallback)
