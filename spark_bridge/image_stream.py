"""Streaming source `accel_images`: the files that come into a folder, each once.

The reader lives in one Python process beside the driver, where it lists the folder and numbers
what is new in a log; tasks read the files. An offset is the number of a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.streaming.datasource import ReadLimit, ReadMaxFiles, SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from spark_bridge.columns import numbers, read_rows, text
from spark_bridge.files import open_folder
from spark_bridge.image_log import File, ImageLog
from spark_bridge.images import CONTENT, list_files, read_contents
from spark_bridge.options import count, one_of, read_options
from spark_bridge.settings import resolve

DEFAULTS = {
    "recursive": "true",
    "glob": "",
    "label": "",
    "partitions": "2",
    "maxFilesPerTrigger": "1000",
    "maxBytes": "64m",
}
COUNTS = ("partitions", "maxFilesPerTrigger", "maxBytes")
LISTED = [("path", pa.string()), ("length", pa.int64()), ("label", pa.string())]


def watch_images(
    spark: SparkSession,
    path: str,
    log: str,
    *,
    recursive: bool = True,
    glob: str | None = None,
    label: Literal["dir"] | None = None,
    **options: object,
) -> DataFrame:
    """A stream of the image files in a folder: those that are there, and those that come.

    A file must come whole: move it in, or give it a name that `glob` does not take until it is
    written. What is written again under the same name is not read again.

    Parameters
    ----------
    path, recursive, glob, label : as for `spark_bridge.read_images`.
    log : folder beside the driver that remembers what was found, one for each checkpoint; it grows
        by about 100 bytes a file.
    **options : partitions (2: tasks of a batch), maxFilesPerTrigger (1000).

    Returns
    -------
    Streaming DataFrame with the columns of `spark_bridge.read_images`.

    Raises
    ------
    InputError
        No such folder, or a wrong option.
    """
    limit = resolve(spark).max_bytes
    given = {"recursive": recursive, "glob": glob or "", "label": label or "", "maxBytes": limit}
    named = {"path": path, "logDir": log, **{k: str(v) for k, v in (given | options).items()}}
    _parsed(named)  # here, where the caller sees it
    spark.dataSource.register(ImageSource)
    return spark.readStream.format(ImageSource.name()).options(**named).load()


@dataclass(frozen=True)
class Options:
    """Checked options of the source."""

    path: str
    log: str
    recursive: bool
    glob: str | None
    label: bool
    counts: Mapping[str, int]

    @property
    def schema(self) -> pa.Schema:
        """Columns of a file."""
        listed = LISTED if self.label else LISTED[:-1]
        return pa.schema([*listed, *CONTENT])


@dataclass
class Piece(InputPartition):
    """Files for one task."""

    files: list[File]


class ImageSource(DataSource):
    """Names the source and its columns."""

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "accel_images"

    def schema(self) -> StructType:
        """Columns of a file."""
        return from_arrow_schema(_parsed(self.options).schema)

    def streamReader(self, schema: object) -> ImageReader:
        """The reader Spark runs beside the driver."""
        return ImageReader(_parsed(self.options))


class ImageReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Lists beside the driver, and reads in tasks; only the options travel between."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._opened: ImageLog | None = None
        self._until: int | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_options": self._options, "_opened": None, "_until": None}

    def initialOffset(self) -> dict[str, int]:
        """Before the first file."""
        return {"file": 0}

    def getDefaultReadLimit(self) -> ReadLimit:
        """At most maxFilesPerTrigger files in a batch."""
        return ReadMaxFiles(self._options.counts["maxFilesPerTrigger"])

    def prepareForTriggerAvailableNow(self) -> None:
        """End at what is there now."""
        self._until = self._listed()

    def latestOffset(self, start: dict[str, int], limit: ReadLimit) -> dict[str, int]:
        """The last file found, within the limit."""
        end = self._listed() if self._until is None else self._until
        most = limit.max_files if isinstance(limit, ReadMaxFiles) else end
        return {"file": max(start["file"], min(end, start["file"] + most))}

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> Sequence[Piece]:
        """Equal shares of the files."""
        files = self._log().files(start["file"], end["file"])
        share = max(1, -(-len(files) // self._options.counts["partitions"]))
        return [Piece(files[i : i + share]) for i in range(0, len(files), share)]

    def read(self, partition: Piece) -> Iterator[pa.RecordBatch]:  # type: ignore[override]
        """Files of one task, a few at a time."""
        system, folder = open_folder(self._options.path)
        most, schema = self._options.counts["maxBytes"], self._options.schema
        step = read_rows(most)
        for i in range(0, len(partition.files), step):
            names, sizes = zip(*partition.files[i : i + step], strict=True)
            listed = [text(names), numbers(np.array(sizes, np.int64))]
            if self._options.label:
                listed.append(text(PurePosixPath(name).parent.name for name in names))
            read = read_contents(system, folder, names, most)
            yield pa.RecordBatch.from_arrays([*listed, *read], schema=schema)

    def commit(self, end: dict[str, int]) -> None:
        """Nothing: the log is small."""

    def stop(self) -> None:
        """Let go of the log."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _listed(self) -> int:
        """Number after that of the last file that is there now."""
        system, folder = open_folder(self._options.path)
        log = self._log()
        log.add(list_files(system, folder, self._options.recursive, self._options.glob))
        return log.end

    def _log(self) -> ImageLog:
        if self._opened is None:
            self._opened = ImageLog(self._options.log)
        return self._opened


def _parsed(given: Mapping[str, str]) -> Options:
    found = read_options(ImageSource.name(), given, ("path", "logDir"), DEFAULTS)
    open_folder(found["path"])
    return Options(
        path=found["path"],
        log=found["logDir"],
        recursive=one_of("recursive", found["recursive"].lower(), ("true", "false")) == "true",
        glob=found["glob"] or None,
        label=one_of("label", found["label"], ("", "dir")) == "dir",
        counts={name: count(name, found[name]) for name in COUNTS},
    )
