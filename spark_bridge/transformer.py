"""Models as stages of a pyspark.ml Pipeline: saved with it, the network inside."""

from __future__ import annotations

from typing import Any

from pyspark.ml import Transformer
from pyspark.ml.functions import array_to_vector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.ml.util import (
    DefaultParamsReadable,
    DefaultParamsReader,
    DefaultParamsWritable,
    DefaultParamsWriter,
    MLWriter,
)
from pyspark.sql import DataFrame
from pyspark.sql.functions import when

import accel
from accel.errors import InputError, ModelError
from accel.images import ImageChain
from spark_bridge.dataframe import predict
from spark_bridge.ship import ModelLike, open_model

FORMATS = {"vector": "array", "array": "array", "bytes": "features"}


class AccelTransformer(
    Transformer, HasInputCol, HasOutputCol, DefaultParamsReadable[Any], DefaultParamsWritable
):
    """What the stages share: the network, its columns and its settings.

    Parameters
    ----------
    model : accel.Model, or the path or bytes of one.
    inputCol, outputCol : column read, column made.
    **params : `kind` ("image" or "tensor"), `backend`, `batchSize`, `resize` (shorter side) and
        `crop`; where not given, as `spark_bridge.predict` takes them.
    """

    kind: Param[str] = Param(
        Params._dummy(), "kind", '"image" or "tensor"', TypeConverters.toString
    )
    backend: Param[str] = Param(
        Params._dummy(), "backend", "name of the device", TypeConverters.toString
    )
    batchSize: Param[int] = Param(
        Params._dummy(), "batchSize", "rows computed at once", TypeConverters.toInt
    )
    resize: Param[int] = Param(
        Params._dummy(), "resize", "shorter side of an image, in pixels", TypeConverters.toInt
    )
    crop: Param[int] = Param(
        Params._dummy(), "crop", "side of the square cut out of the middle", TypeConverters.toInt
    )

    def __init__(
        self, model: ModelLike | None = None, inputCol: str = "content", **params: Any
    ) -> None:
        super().__init__()
        self._model = None if model is None else open_model(model)
        self._setDefault(inputCol="content", outputCol="prediction", kind="image")
        unknown = [name for name in params if not self.hasParam(name)]
        if unknown:
            known = ", ".join(param.name for param in self.params)
            raise InputError(f"unknown parameter {unknown[0]!r}; known: {known}")
        given = {k: v for k, v in params.items() if v is not None}
        self._set(inputCol=inputCol, **given)

    @property
    def model(self) -> accel.Model:
        """The network.

        Raises
        ------
        ModelError
            The stage was made without one.
        """
        if self._model is None:
            raise ModelError(f"{type(self).__name__} has no model; pass model=")
        return self._model

    def write(self) -> MLWriter:
        """What `save` uses."""
        return StageWriter(self)

    @classmethod
    def read(cls) -> DefaultParamsReader[Any]:
        """What `load` uses."""
        return StageReader(cls)

    def _predict(self, dataset: DataFrame, **arguments: Any) -> DataFrame:
        """`spark_bridge.predict` with the parameters of the stage."""
        chain = None
        if self.isDefined("resize") or self.isDefined("crop"):
            chain = ImageChain(resize=self._given("resize"), crop=self._given("crop"))
        return predict(
            dataset, self.model, self.getInputCol(), kind=self._given("kind"), chain=chain,
            backend=self._given("backend"), batch_size=self._given("batchSize"), **arguments,
        )  # fmt: skip

    def _given(self, name: str) -> Any:
        return self.getOrDefault(name) if self.isDefined(name) else None


class AccelClassifier(AccelTransformer):
    """Appends the struct of `predict(task="classify")`; also takes `topK` and `labels`."""

    topK: Param[int] = Param(Params._dummy(), "topK", "classes listed", TypeConverters.toInt)
    labels: Param[list[str]] = Param(
        Params._dummy(), "labels", "name of each class", TypeConverters.toListString
    )

    def _transform(self, dataset: DataFrame) -> DataFrame:
        return self._predict(
            dataset, output=self.getOutputCol(), top_k=self._given("topK") or 1,
            labels=self._given("labels"),
        )  # fmt: skip


class AccelFeaturizer(AccelTransformer):
    """Appends the first output, flat, in `outputFormat`: "vector" for other stages of
    pyspark.ml, "array" of float, or "bytes" (float32, little-endian).

    A row that cannot be computed has null there and its error in the column
    ``<outputCol>_error``: filter on it before a stage that cannot take null.
    """

    outputFormat: Param[str] = Param(
        Params._dummy(), "outputFormat", "vector, array or bytes", TypeConverters.toString
    )

    def __init__(self, model: ModelLike | None = None, **params: Any) -> None:
        super().__init__(model, **params)
        self._setDefault(outputCol="features", outputFormat="vector")

    def _transform(self, dataset: DataFrame) -> DataFrame:
        form = self.getOrDefault(self.outputFormat)
        if form not in FORMATS:
            raise InputError(f"outputFormat is {form!r}; expected one of {', '.join(FORMATS)}")
        output, struct = self.getOutputCol(), f"{self.uid}_result"
        made = self._predict(dataset, output=struct, task=FORMATS[form])
        values = made[f"`{struct}`.{FORMATS[form]}"]
        features = values
        if form == "vector":  # it cannot take null
            features = when(values.isNotNull(), array_to_vector(values))
        error = made[f"`{struct}`.error"]
        return made.withColumns({output: features, f"{output}_error": error}).drop(struct)


class AccelDetector(AccelTransformer):
    """Appends the struct of `predict(task="detect")`; also takes `minScore`."""

    minScore: Param[float] = Param(
        Params._dummy(), "minScore", "score that a box must pass, 0..1", TypeConverters.toFloat
    )

    def _transform(self, dataset: DataFrame) -> DataFrame:
        return self._predict(
            dataset, output=self.getOutputCol(), task="detect", min_score=self._given("minScore")
        )


class StageWriter(DefaultParamsWriter):
    """Writes the parameters as pyspark.ml does, and the network beside them."""

    def saveImpl(self, path: str) -> None:
        """Write ``path/metadata`` and ``path/model``."""
        super().saveImpl(path)
        stage: Any = self.instance
        row = (stage.model.name, stage.model.to_bytes())
        df = self.sparkSession.createDataFrame([row], "name string, data binary")
        df.coalesce(1).write.parquet(f"{path}/model")


class StageReader(DefaultParamsReader[Any]):
    """Reads what StageWriter wrote."""

    def load(self, path: str) -> Any:
        """The stage with its network.

        Raises
        ------
        ModelError
            The network is missing.
        """
        stage = super().load(path)
        row = self.sparkSession.read.parquet(f"{path}/model").first()
        if row is None:
            raise ModelError(f"no network in {path}/model; save the stage again")
        stage._model = accel.Model(bytes(row.data), row.name)
        return stage
