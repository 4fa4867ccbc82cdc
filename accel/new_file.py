"""Write a file whole: a reader sees the old one or the new one, never half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from accel.errors import ModelError


@contextmanager
def new_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its name when the block ends without an error.

    Raises
    ------
    ModelError
        Its folder does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise ModelError(f"cannot write {str(target)!r}: its folder does not exist")
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
