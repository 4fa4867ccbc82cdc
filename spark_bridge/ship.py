"""Ship a model to the executors once, as a file, and find it again there.

The file is named by the hash of its content, so a query built twice ships and compiles nothing
twice. It is never part of the closure: a closure of a 100 MB model costs every Python worker
200 MB, a file none until it is compiled.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pyspark import SparkFiles

import accel
from accel.errors import InputError, ModelError
from spark_bridge.session import is_connect

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ModelLike: TypeAlias = "accel.Model | str | os.PathLike[str] | bytes"

_shipped: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class ModelRef:
    """Name of a shipped model: small enough for a closure, and the identity of its programs.

    Attributes
    ----------
    digest : hexadecimal SHA-256 of the file.
    size : bytes of the file.
    name : the model's name, for messages.
    """

    digest: str
    size: int
    name: str = field(compare=False)

    @property
    def filename(self) -> str:
        return f"lwaccel-{self.digest[:32]}.onnx"

    def load(self) -> accel.Model:
        """Read the model on an executor.

        Raises
        ------
        ModelError
            The file did not arrive, or arrived with other content.
        """
        try:
            data = shipped(self.filename).read_bytes()
        except OSError as err:
            raise ModelError(
                f"the shipped model {self.filename} is not on this executor: {err.strerror}; "
                "it was shipped to another Spark application: build the query again"
            ) from None
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise ModelError(
                f"the shipped model {self.filename} is damaged: {len(data)} bytes, "
                f"expected {self.size} with SHA-256 {self.digest}; run the job again"
            )
        return accel.Model(data, self.name)


def ship(spark: SparkSession, model: accel.Model) -> ModelRef:
    """Make a model available on every executor of the session's application.

    Parameters
    ----------
    spark : classic or Connect session.
    model : any Model, quantized or not.

    Returns
    -------
    ModelRef, equal for equal models.
    """
    data = model.to_bytes()
    ref = ModelRef(model.digest, len(data), model.name)
    ship_file(spark, ref.filename, lambda path: path.write_bytes(data))
    return ref


def ship_file(spark: SparkSession, name: str, write: Callable[[Path], object]) -> None:
    """Make a file available on every executor of the session's application, once.

    Parameters
    ----------
    name : tells its content.
    write : makes the file at a path, where this driver has not made it before.
    """
    session: Any = spark
    connect = is_connect(spark)
    application = str(session.session_id if connect else spark.sparkContext.applicationId)
    if (application, name) in _shipped:
        return
    path = _folder() / name
    if not path.exists():
        partial = path.with_suffix(".partial")  # Spark may fetch it at any time: whole, or not
        write(partial)
        partial.replace(path)
    if connect:
        spark.addArtifacts(str(path), file=True)
    else:
        spark.sparkContext.addFile(str(path))
    _shipped.add((application, name))


def shipped(name: str) -> Path:
    """Where Spark put a file on this executor; for the streams of a Connect client in a folder
    below."""
    folder = Path(SparkFiles.getRootDirectory())
    usual = folder / name
    return usual if usual.exists() else next(folder.glob(f"*/{name}"), usual)


def open_model(model: ModelLike) -> accel.Model:
    """The model itself, or the model of a path or of bytes.

    Raises
    ------
    InputError
        Something else was given.
    """
    if isinstance(model, accel.Model):
        return model
    if isinstance(model, (str, os.PathLike)):
        return accel.load(os.fspath(model))
    if isinstance(model, bytes):
        return accel.load(model)
    raise InputError(
        f"model: expected an accel.Model, a path or bytes, got {type(model).__name__}; "
        "load it with accel.load(path)"
    )


@cache
def _folder() -> Path:
    """Folder of this driver's model files; Spark serves them as long as the driver lives."""
    folder = Path(tempfile.mkdtemp(prefix="lwaccel-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
