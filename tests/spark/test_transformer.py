"""Pipeline stages: the predictions of `predict`, also after a save and a load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LogisticRegression
from pyspark.sql import DataFrame, SparkSession

import accel
from accel.errors import InputError, ModelError
from spark_bridge import predict
from spark_bridge.transformer import AccelClassifier, AccelFeaturizer


@pytest.fixture
def df(spark: SparkSession, files: list[bytes]) -> DataFrame:
    rows = [(i, file, float(i % 2)) for i, file in enumerate(files)]
    return spark.createDataFrame(rows, "id int, photo binary, label double")


def test_classifier_gives_what_predict_gives(df: DataFrame, cnn: accel.Model) -> None:
    labels = list("abcdefghij")
    stage = AccelClassifier(cnn, "photo", outputCol="p", backend="mkl", batchSize=7, topK=2,
                            labels=labels)  # fmt: skip
    expected = predict(df, cnn, "photo", "p", backend="cpu", top_k=2, labels=labels)
    assert stage.transform(df).collect() == expected.collect()


@pytest.mark.parametrize("form", ["vector", "array", "bytes"])
def test_featurizer_gives_the_output_in_its_format(
    df: DataFrame, cnn: accel.Model, pixels: np.ndarray, form: str
) -> None:
    expected = accel.device("cpu").compile(cnn).run(pixels)
    stage = AccelFeaturizer(cnn, inputCol="photo", outputFormat=form)
    rows = sorted(stage.transform(df).collect(), key=lambda row: row.id)
    read = {
        "vector": lambda v: v.toArray(),
        "array": np.asarray,
        "bytes": lambda v: np.frombuffer(v, "<f4"),
    }[form]
    np.testing.assert_array_equal(np.stack([read(row.features) for row in rows]), expected)
    assert {row.features_error for row in rows} == {None}


def test_featurizer_bad_row_has_null_and_its_error(spark: SparkSession, cnn: accel.Model) -> None:
    df = spark.createDataFrame([(b"junk",)], "content binary")
    for form in ("vector", "array", "bytes"):
        row = AccelFeaturizer(cnn, outputFormat=form).transform(df).first()
        assert row is not None
        assert row.features is None and row.features_error.code == "DECODE"


def test_pipeline_predicts_the_same_after_save_and_load(
    df: DataFrame, cnn: accel.Model, tmp_path: Path
) -> None:
    stages = [AccelFeaturizer(cnn, inputCol="photo", resize=16, crop=16),
              LogisticRegression(maxIter=2)]  # fmt: skip
    fitted = Pipeline(stages=stages).fit(df)
    fitted.save(str(tmp_path / "pipeline"))
    again = PipelineModel.load(str(tmp_path / "pipeline"))
    assert isinstance(again.stages[0], AccelFeaturizer)
    assert again.stages[0].model.to_bytes() == cnn.to_bytes()
    assert again.stages[0].model.name == cnn.name
    columns = ("id", "features", "prediction")
    assert again.transform(df).select(*columns).collect() == (
        fitted.transform(df).select(*columns).collect()
    )


def test_stage_copy_keeps_the_network(df: DataFrame, cnn: accel.Model) -> None:
    stage = AccelClassifier(cnn, "photo")
    changed = stage.copy({stage.backend: "fpga"})
    assert changed.model is cnn and changed.getOrDefault("backend") == "fpga"


def test_stage_wrong_use_says_what_is_wrong(df: DataFrame, cnn: accel.Model) -> None:
    with pytest.raises(ModelError, match="AccelClassifier has no model"):
        AccelClassifier(inputCol="photo").transform(df)
    with pytest.raises(InputError, match=r"unknown parameter 'batch_size'; known: .*batchSize"):
        AccelClassifier(cnn, batch_size=3)
    with pytest.raises(InputError, match="outputFormat is 'list'"):
        AccelFeaturizer(cnn, inputCol="photo", outputFormat="list").transform(df)
    with pytest.raises(InputError, match="no column 'content'"):
        AccelClassifier(cnn).transform(df)
