"""Files anywhere that pyarrow reaches: local folders, and URIs such as file:, s3:, gs: or hdfs:.

A plain local path is opened without pyarrow, in a third of the time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyarrow as pa

from accel.errors import InputError
from spark_bridge.rows import RowError

if TYPE_CHECKING:
    from pyarrow import fs


def open_folder(path: str) -> tuple[fs.FileSystem, str]:
    """File system of a folder, and its path there.

    Raises
    ------
    InputError
        There is no such folder, or no way to reach it.
    """
    from pyarrow.fs import FileType

    try:
        system, folder = resolve_path(path)
        kind = system.get_file_info(folder).type
    except (OSError, pa.ArrowException) as err:
        raise InputError(f"cannot open {path}: {err}") from None
    if kind != FileType.Directory:
        raise InputError(f"no folder at {path}; give a folder that holds images")
    return system, folder


def resolve_path(path: str) -> tuple[fs.FileSystem, str]:
    """File system of a path or URI, and the path there; a local one is made absolute, since tasks
    run in other folders."""
    from pyarrow.fs import FileSystem, LocalFileSystem

    if is_uri(path):
        system, inner = FileSystem.from_uri(path)
        return system, inner
    return LocalFileSystem(), os.path.abspath(path)


def is_uri(path: str) -> bool:
    """Whether a path names its file system."""
    return "://" in str(path) or str(path).startswith("file:")


def read_file(system: fs.FileSystem, path: str, max_bytes: int) -> bytes:
    """The whole of one file.

    Raises
    ------
    RowError
        ``UNREADABLE``, or ``TOO_LARGE`` for more than `max_bytes`.
    """
    try:
        with system.open_input_stream(path) as stream:
            data: bytes = stream.read(max_bytes + 1)
    except (OSError, pa.ArrowException) as err:
        raise RowError("UNREADABLE", "read", str(err)) from None
    return _checked(data, max_bytes)


def read_path(path: object, max_bytes: int) -> bytes:
    """The file at a path or URI.

    Raises
    ------
    RowError
        As `read_file`; ``NULL_INPUT`` where there is no path.
    """
    if path is None:
        raise RowError("NULL_INPUT", "read", "the path is null")
    if not isinstance(path, str):
        raise RowError("SHAPE", "read", f"{type(path).__name__}; expected a path as text")
    try:
        if is_uri(path):
            system, inner = resolve_path(path)
            return read_file(system, inner, max_bytes)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _checked(file.read(min(size, max_bytes) + 1), max_bytes)
    except (OSError, ValueError, pa.ArrowException) as err:
        raise RowError("UNREADABLE", "read", str(err)) from None


def _checked(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        message = f"the file has more than {max_bytes} bytes (spark.accel.maxBytes)"
        raise RowError("TOO_LARGE", "read", message)
    return data
