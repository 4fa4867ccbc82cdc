"""Programs packed once: on the driver, or by the first worker of an executor; all map the file.

What is mapped is shared by the workers of an executor, so a model of 100 MB costs each of them a
few MB of its own. The driver compiles a query's model in any case, to see whether it can be run,
and ships what came of it under the name that a worker looks for. A worker compiles where that is
of no use to it: for another instruction set.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import accel
from accel import kernels
from spark_bridge.devices import Rows, driver_program
from spark_bridge.settings import Settings
from spark_bridge.ship import ship_file, shipped

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MAPPED = ("cpu",)  # devices whose programs can be saved


def ship_program(spark: SparkSession, model: accel.Model, settings: Settings, rows: Rows) -> None:
    """Give every executor the program that the driver has compiled."""
    name = program_name(model.digest, rows, settings.batch_size)
    ship_file(spark, name, lambda path: driver_program(model, settings, rows).save(path))


def program_name(digest: str, rows: Rows, batch_size: int) -> str:
    """Name of the file of a program of this machine, by the digest of its model."""
    identity = digest, [row.shape for row in rows], batch_size, kernels.isa(), accel.__version__
    return f"lwaccel-{hashlib.sha256(repr(identity).encode()).hexdigest()[:32]}.program"


def mapped(
    name: str, make: Callable[[], accel.Program], threads: int, folder: Path | None = None
) -> accel.Program:
    """The program of a file, which is made where absent.

    Parameters
    ----------
    make : compiles it, for a device of `MAPPED`.
    folder : default: where Spark puts the files of an executor, which end with it.
    """
    path = folder / name if folder else shipped(name)
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
