"""HeadClassifier: a head trained by Spark on int8 features, and the same inside one Model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import DecisionTreeClassifier, LinearSVC, LogisticRegression
from pyspark.sql import DataFrame, SparkSession

import accel
from accel.demo import digits_model, digits_test
from accel.errors import InputError, ModelError
from accel.head import without_head
from spark_bridge import predict
from spark_bridge.head import HeadClassifier, HeadModel
from spark_bridge.transformer import AccelFeaturizer

COUNT = 120


@pytest.fixture(scope="module")
def body() -> accel.Model:
    return without_head(digits_model().quantize())


@pytest.fixture(scope="module")
def df(spark: SparkSession) -> DataFrame:
    images, labels = digits_test()
    chosen = np.flatnonzero(labels < 3)[:COUNT]
    rows = [(int(i), cv2.imencode(".png", images[i])[1].tobytes(), float(labels[i]),
             ("zero", "one", "two")[labels[i]]) for i in chosen]  # fmt: skip
    rows.append((-1, b"junk", 0.0, "zero"))
    return spark.createDataFrame(rows, "id int, content binary, label double, name string").cache()


def labels_of(fused: accel.Model, df: DataFrame) -> dict[int, int]:
    return {row.id: row.prediction.label for row in predict(df, fused).collect()}


def test_head_of_names_fused_gives_the_labels_of_spark(df: DataFrame, body: accel.Model) -> None:
    head = HeadClassifier(labelCol="name", estimator=LogisticRegression(maxIter=10))
    fitted = Pipeline(stages=[AccelFeaturizer(body), head]).fit(df)
    trained = fitted.stages[-1]
    assert isinstance(trained, HeadModel) and trained.labels == ("one", "two", "zero")
    good = df.where("id >= 0")
    by_spark = {row.id: int(row.prediction) for row in fitted.transform(good).collect()}
    found = labels_of(trained.fuse(body), df)
    assert found.pop(-1) is None  # the row that is no image
    assert found == by_spark
    truth = {row.id: trained.labels.index(row.name) for row in good.select("id", "name").collect()}
    assert sum(found[i] == truth[i] for i in truth) > 0.95 * len(truth)


@pytest.mark.parametrize("estimator", [LogisticRegression, LinearSVC])
def test_head_of_two_classes_fuses_to_two_outputs(
    df: DataFrame, body: accel.Model, estimator: type
) -> None:
    two = df.where("label < 2 AND id >= 0")
    features = AccelFeaturizer(body).transform(two).cache()
    head = HeadClassifier(estimator=estimator(maxIter=5)).fit(features)
    fused = head.fuse(body)
    assert fused.outputs[0].shape[1:] == (2,)
    by_spark = {row.id: int(row.prediction) for row in head.transform(features).collect()}
    assert labels_of(fused, two) == by_spark and set(by_spark.values()) == {0, 1}


def test_head_wrong_use_says_what_to_do(df: DataFrame, body: accel.Model) -> None:
    with pytest.raises(InputError, match="no column 'features'"):
        HeadClassifier().fit(df)
    features = AccelFeaturizer(body).transform(df.limit(20))
    tree = HeadClassifier(estimator=DecisionTreeClassifier()).fit(features)
    with pytest.raises(ModelError, match="is not linear; train a LogisticRegression"):
        tree.fuse(body)
