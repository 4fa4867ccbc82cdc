"""One writer for each folder: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from accel.errors import InputError

LOCK_S = 10.0  # a driver that was killed may leave its reader alive for a moment


def lock_folder(folder: Path) -> int:
    """Hold the folder for this process until the file returned here is closed.

    Raises
    ------
    InputError
        Another process holds it.
    """
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            if time.monotonic() > deadline:
                os.close(file)
                raise InputError(
                    f"another query writes to the spool {folder}; give each its own spoolDir"
                ) from None
            time.sleep(0.1)
