"""Programs packed once for each executor: the first worker compiles and saves, all map the file.

What is mapped is shared by the workers of an executor, so a model of 100 MB costs each of them a
few MB of its own, and only the first the time to compile.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark import SparkFiles

import accel
from accel import kernels


def mapped(
    identity: object, make: Callable[[], accel.Program], threads: int, folder: Path | None = None
) -> accel.Program:
    """The program of `identity`, from the file of this executor; made and saved where absent.

    Parameters
    ----------
    identity : tells programs apart by its repr: model, shapes and batch size.
    make : compiles it, for a device whose programs can be saved.
    folder : default: that of the executor's files, which ends with it.
    """
    name = hashlib.sha256(repr((identity, kernels.isa())).encode()).hexdigest()[:32]
    path = (folder or Path(SparkFiles.getRootDirectory())) / f"lwaccel-{name}.program"
    with _locked(path.with_suffix(".lock")):
        if not path.exists():
            try:
                make().save(path)
            except OSError:  # no room on the disk
                return make()
            _give_back_memory()
    return accel.load_program(path, threads)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _give_back_memory() -> None:
    """The allocator keeps what compiling took, many times the program, unless it is told."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
