"""Settings: where a value comes from, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from accel.errors import InputError
from spark_bridge.settings import Settings, parse_count, resolve


@pytest.fixture
def conf(spark: SparkSession) -> Iterator[SparkSession]:
    """The session, without settings of ours before and after."""
    yield spark
    for key in spark.conf.getAll:
        if key.startswith("spark.accel."):
            spark.conf.unset(key)


def test_resolve_nothing_given_takes_defaults(conf: SparkSession) -> None:
    assert resolve(conf) == Settings() == resolve(None)


def test_resolve_order_is_argument_session_environment(
    conf: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCEL_BACKEND", "mkl")
    assert resolve(conf).backend == "mkl"
    conf.sql("SET spark.accel.backend=openvino")
    assert resolve(conf).backend == "openvino"
    assert resolve(conf, backend="onnxruntime").backend == "onnxruntime"


def test_resolve_session_spelling_reaches_every_field(conf: SparkSession) -> None:
    given = "batchSize=7 batchBytes=2m threads=3 onError=fail maxPixels=1k maxBytes=1g "
    given += "cacheSlots=2 fallback=mkl,cpu isolate=never fpga.card=x fpga.faults=hang "
    for pair in f"{given} fpga.timeoutMs=9".split():
        key, _, value = pair.partition("=")
        conf.conf.set(f"spark.accel.{key}", value)
    assert resolve(conf) == Settings("cpu", 7, 2 << 20, 3, "fail", 1024, 1 << 30, 2,
                                     ("mkl", "cpu"), "never", "x", "hang", 9)  # fmt: skip


@pytest.mark.parametrize("text", ["", "-1", "1.5", "4x", "k"])
def test_parse_count_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_count(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("batch_size", True), ("batch_size", 1.5), ("threads", -1),
     ("on_error", "drop"), ("backend", " "), ("backend", 3), ("batch_size", 65537),
     ("fpga_timeout_ms", 0), ("fpga_card", ""), ("fallback", "mkl,,cpu"), ("fallback", 3),
     ("isolate", "yes")],
)  # fmt: skip
def test_resolve_wrong_argument_names_it(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"argument {name}: expected"):
        resolve(None, **{name: value})


def test_resolve_wrong_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_BATCH_SIZE", "many")
    with pytest.raises(InputError, match="environment variable ACCEL_BATCH_SIZE"):
        resolve(None)


def test_resolve_misspelt_setting_lists_the_known(conf: SparkSession) -> None:
    conf.conf.set("spark.accel.batchsize", "8")
    with pytest.raises(InputError, match=r"unknown .*batchsize; known: .*spark.accel.batchSize"):
        resolve(conf)
