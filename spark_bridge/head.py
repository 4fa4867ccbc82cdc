"""Transfer learning: a head that Spark ML trains on the features of a frozen int8 network, then
put onto the network, so that one Model does both."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark.ml import Estimator, Model
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import StringIndexer
from pyspark.sql import DataFrame
from pyspark.sql.functions import col
from pyspark.sql.types import StringType

import accel
from accel.errors import InputError, ModelError
from accel.head import with_head
from spark_bridge.ship import ModelLike, open_model

INDEX = "head_label"


class HeadModel(Model):
    """A trained head.

    Attributes
    ----------
    head : the model of Spark ML.
    labels : name of each class, where the labels were text.
    """

    def __init__(self, head: Any = None, labels: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.head, self.labels = head, labels

    def _transform(self, dataset: DataFrame) -> DataFrame:
        transformed: DataFrame = self.head.transform(dataset)
        return transformed

    def fuse(self, model: ModelLike) -> accel.Model:
        """The network with this head.

        Parameters
        ----------
        model : the one whose features the head was trained on, such as `accel.head.without_head`
            gives.

        Returns
        -------
        Model with the one output ``probability`` (N, classes), its classes in the order of
        `labels`.

        Raises
        ------
        ModelError
            The estimator is not linear.
        InputError
            The network has another number of features.
        """
        weights, bias = _linear(self.head)
        return with_head(open_model(model), weights.astype(np.float32), bias.astype(np.float32))


class HeadClassifier(Estimator[HeadModel]):
    """Trains a head.

    Parameters
    ----------
    featuresCol : column of vectors, as `AccelFeaturizer` makes them; rows where it is null, which
        are the images that could not be read, are left out.
    labelCol : column of numbers from 0, or of names.
    estimator : default: LogisticRegression(maxIter=50).
    """

    def __init__(
        self, featuresCol: str = "features", labelCol: str = "label", estimator: Any = None
    ) -> None:
        super().__init__()
        self._columns = featuresCol, labelCol
        self._estimator = estimator or LogisticRegression(maxIter=50)

    def _fit(self, dataset: DataFrame) -> HeadModel:
        features, label = self._columns
        for name in self._columns:
            if name not in dataset.columns:
                raise InputError(f"no column {name!r}; columns: {', '.join(dataset.columns)}")
        known = dataset.where(col(f"`{features}`").isNotNull())
        names = None
        if isinstance(dataset.schema[label].dataType, StringType):
            indexer = StringIndexer(inputCol=label, outputCol=INDEX, stringOrderType="alphabetAsc")
            fitted = indexer.fit(known)
            known, label, names = fitted.transform(known), INDEX, tuple(fitted.labels)
        params = {"featuresCol": features, "labelCol": label}
        copied = self._estimator.copy({self._estimator.getParam(k): v for k, v in params.items()})
        return HeadModel(copied.fit(known), names)


def _linear(head: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(features, classes) weights and (classes,) bias of a linear model; softmax over them gives
    its probabilities, for two classes those of a sigmoid."""
    if hasattr(head, "coefficientMatrix"):
        weights, bias = head.coefficientMatrix.toArray().T, head.interceptVector.toArray()
    elif hasattr(head, "coefficients") and hasattr(head, "intercept"):
        weights, bias = head.coefficients.toArray()[:, np.newaxis], np.array([head.intercept])
    else:
        raise ModelError(
            f"{type(head).__name__} is not linear; train a LogisticRegression or a LinearSVC to "
            "fuse it, or use the head as it is with transform()"
        )
    if weights.shape[1] == 1:  # one column decides between two classes
        weights, bias = np.hstack([0 * weights, weights]), np.concatenate([[0.0], bias])
    return weights, bias
