"""The files a stream of images has seen, numbered in the order in which they were found.

One line a file: JSON of its name below the folder and its size. Numbers outlive the process, so a
query that starts again from its checkpoint reads the same files again and no other twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from accel.errors import InputError
from spark_bridge.folder_lock import lock_folder

NAME = "images.log"
File = tuple[str, int]  # name, bytes


class ImageLog:
    """The log in one folder, held for this process.

    Raises
    ------
    InputError
        Another process holds it.
    """

    def __init__(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._lock_file = lock_folder(Path(folder))
        self._folder = folder
        path = Path(folder, NAME)
        path.touch()
        whole, end, _ = path.read_bytes().rpartition(b"\n")
        os.truncate(path, len(whole + end))  # a crash may have cut the last line
        self._file = path.open("ab")
        self._files: list[File] = [tuple(json.loads(line)) for line in whole.splitlines()]
        self._known = {name for name, _ in self._files}

    @property
    def end(self) -> int:
        """Number after that of the last file."""
        return len(self._files)

    def add(self, found: Iterable[File]) -> None:
        """Number the files that are new; they are safe on disk when this returns."""
        new = [file for file in found if file[0] not in self._known]
        if not new:
            return
        self._file.write(b"".join(json.dumps(file).encode() + b"\n" for file in new))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._files += new
        self._known.update(name for name, _ in new)

    def files(self, start: int, stop: int) -> list[File]:
        """Files `start` to `stop`.

        Raises
        ------
        InputError
            They are not all here: the log belongs to another query.
        """
        if not 0 <= start <= stop <= self.end:
            raise InputError(
                f"images {start} to {stop} are asked for, but the log in {self._folder} holds "
                f"{self.end}; use one logDir for each checkpoint"
            )
        return self._files[start:stop]

    def close(self) -> None:
        """Let another process hold it."""
        self._file.close()
        os.close(self._lock_file)
