"""Image files as a DataFrame, every file a row, also those that cannot be read.

Spark's own `binaryFile` leaves out empty files and its `image` takes truncated ones for whole.
Here the driver lists the files and the tasks read them; nothing is decoded yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from accel.errors import InputError
from accel.images import SUFFIXES
from spark_bridge.arrow import MapFunction, map_in_arrow
from spark_bridge.columns import binary, read_rows
from spark_bridge.files import open_folder, read_file
from spark_bridge.results import ERROR, errors, field
from spark_bridge.rows import RowError
from spark_bridge.settings import resolve

if TYPE_CHECKING:
    from pyarrow import fs

PARTITION_BYTES = 128 << 20
CONTENT = pa.struct([("content", pa.binary()), ("error", ERROR)])


def read_images(
    spark: SparkSession,
    path: str,
    recursive: bool = True,
    glob: str | None = None,
    partitions: int | None = None,
    label: Literal["dir"] | None = None,
) -> DataFrame:
    """List image files and read them in tasks.

    Parameters
    ----------
    path : folder, local or by a URI that pyarrow knows (file:, s3:, gs:, hdfs:). Every executor
        must reach it.
    recursive : take the folders below it too.
    glob : pattern of file names, such as ``*.jpg``; default: all suffixes of images.
    partitions : default: one for each core, more where that exceeds 128 MB each.
    label : "dir" adds the name of the file's folder, as in ``train/cat/1.jpg``.

    Returns
    -------
    DataFrame: path string (below the folder, with forward slashes), length long, [label string,]
    content binary, error struct<code, stage, message>. A file that cannot be read, or is larger
    than the setting ``spark.accel.maxBytes``, has null content and an error.

    Raises
    ------
    InputError
        No such folder, no image in it, or a wrong argument.
    """
    if label not in (None, "dir"):
        raise InputError(f"label is {label!r}; expected None or 'dir'")
    if partitions is not None and partitions < 1:
        raise InputError(f"partitions is {partitions}; expected at least 1")
    system, folder = open_folder(path)
    files = list(list_files(system, folder, recursive, glob))
    if not files:
        raise InputError(f"no file in {path} named {glob or 'as an image'}; files of other kinds "
                         "are chosen with glob=")  # fmt: skip
    rows = [(name, size, PurePosixPath(name).parent.name) for name, size in files]
    listed = spark.createDataFrame(rows, "path string, length long, label string")
    count = partitions or _partitions(spark, sum(size for _, size in files))
    listed = listed.repartition(count) if label else listed.drop("label").repartition(count)
    read = [field(f.name, f.type) for f in CONTENT]
    reader = _reader(system, folder, resolve(spark).max_bytes)
    return map_in_arrow(listed, reader, StructType([*listed.schema.fields, *read]))


def list_files(
    system: fs.FileSystem, folder: str, recursive: bool, glob: str | None
) -> Iterator[tuple[str, int]]:
    """Name below the folder and size of each file, in order of names.

    Parameters
    ----------
    glob : pattern of file names; None takes the suffixes of images.
    """
    from pyarrow.fs import FileSelector, FileType

    found = system.get_file_info(FileSelector(folder, recursive=recursive))
    for info in sorted(found, key=lambda i: i.path):
        wanted = fnmatch(info.base_name, glob) if glob else _is_image(info.base_name)
        if info.type == FileType.File and wanted:
            yield info.path[len(folder.rstrip("/")) + 1 :], info.size or 0


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _partitions(spark: SparkSession, total_bytes: int) -> int:
    """Tasks for this much data: all cores busy, no task beyond PARTITION_BYTES."""
    cores = int(spark.conf.get("spark.sql.leafNodeDefaultParallelism", None) or 0)
    if not cores and hasattr(spark, "_jsparkSession"):  # a Connect client does not know
        cores = spark.sparkContext.defaultParallelism
    return max(cores, 1, -(-total_bytes // PARTITION_BYTES))


def _reader(system: fs.FileSystem, folder: str, max_bytes: int) -> MapFunction:
    """The function that reads the files of one partition, a few at a time."""
    step = read_rows(max_bytes)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for start in range(0, batch.num_rows, step):
                part = batch.slice(start, step)
                names = part.column("path").to_pylist()
                columns = read_contents(system, folder, names, max_bytes)
                for kind, column in zip(CONTENT, columns, strict=True):
                    part = part.append_column(kind.name, column)
                yield part

    return read


def read_contents(
    system: fs.FileSystem, folder: str, names: Iterable[str], max_bytes: int
) -> list[pa.Array]:
    """The columns `CONTENT` of some files."""
    found = [_content(system, f"{folder.rstrip('/')}/{name}", max_bytes) for name in names]
    contents = binary(None if isinstance(content, RowError) else content for content in found)
    return [contents, errors(found)]


def _content(system: fs.FileSystem, path: str, max_bytes: int) -> bytes | RowError:
    """Content of one file, or the error that keeps it out."""
    try:
        return read_file(system, path, max_bytes)
    except RowError as err:
        return err
