"""Open the device of a query: on the driver to try it, in a task to use it.

Where Spark hands out cards as a resource (``spark.task.resource.fpga.amount``), a task opens the
card it was given and locks it, so that two tasks never share one, even where Spark gives both the
same.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyspark import TaskContext

import accel
from accel.backends.auto import AutoProgram
from accel.errors import DeviceError, InputError
from spark_bridge.settings import Settings

RESOURCE = "fpga"
Rows = tuple[accel.TensorSpec, ...]  # shape of one row of each input


def open_device(settings: Settings) -> accel.Device:
    """The device of these settings; in a task with a card of its own, that card.

    A card that cannot finish a batch fails: what takes its place is the query's choice
    (`spark_bridge.guard`), not the driver's.

    Raises
    ------
    DeviceError
        Unknown, not installed, or the task was given a card under a name that is no number.
    """
    name = device_name(settings.backend)
    return accel.device(name, **(_card_options(settings) if is_card(name) else {}))


def device_name(backend: str) -> str:
    """`backend`, with the number of the task's own card where it names none."""
    context = TaskContext.get()
    cards = context.resources().get(RESOURCE) if context is not None else None
    if backend != RESOURCE or cards is None:
        return backend
    address = cards.addresses[0]
    if not address.isdecimal():
        raise DeviceError(
            f"the task was given the card {address!r}; the discovery script of "
            f"spark.executor.resource.{RESOURCE} must list numbers"
        )
    return f"{RESOURCE}:{address}"


@contextmanager
def held_card(backend: str) -> Iterator[None]:
    """Hold the card that Spark gave to this task, if it gave one; waits while another task of
    this machine holds it."""
    name = device_name(backend)
    if name == backend:
        yield
        return
    path = Path(tempfile.gettempdir(), f"lwaccel-{name.replace(':', '-')}.lock")
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def compile_rows(
    device: accel.Device, model: accel.Model, rows: Rows, batch_size: int, threads: int = 1
) -> accel.Program:
    """Compile for rows of these shapes; a batch that is fixed in the model stays as it is."""
    fixed = all(d is not None for row in rows for d in row.shape)
    free = any(d is None for i in model.inputs for d in i.shape[1:])
    if not (fixed and free):
        return device.compile(model, batch_size, threads)
    leading = {i.name: i.shape[0] or batch_size for i in model.inputs}
    shapes = {r.name: [leading[r.name], *(d or 0 for d in r.shape)] for r in rows}
    return device.compile(model, batch_size, threads, shapes=shapes)


@lru_cache(maxsize=8)
def chosen_backend(model: accel.Model, settings: Settings, rows: Rows) -> str:
    """The backend all workers use; "auto" is settled here, once.

    The model is compiled, so that a device refuses it before the job starts; those that may take
    its place are tried too.

    Raises
    ------
    DeviceError, ModelError, UnsupportedError
    """
    for name in (*settings.fallback, settings.backend):
        if name == "auto" and name != settings.backend:
            raise InputError("spark.accel.fallback names 'auto'; expected devices by name")
        open_device(replace(settings, backend=name))  # with its faults: they may be misspelt
        program = driver_program(model, replace(settings, backend=name), rows)
    return program.chosen if isinstance(program, AutoProgram) else settings.backend


@lru_cache(maxsize=1)
def driver_program(model: accel.Model, settings: Settings, rows: Rows) -> accel.Program:
    """The program of a query as the driver compiles it: on a card without faults. The last one is
    kept, to be shipped.

    Raises
    ------
    DeviceError, ModelError, UnsupportedError
    """
    device = open_device(replace(settings, fpga_faults=None))
    threads = (settings.threads or 1) if settings.backend == "auto" else 1
    return compile_rows(device, model, rows, settings.batch_size, threads)


def is_card(name: str) -> bool:
    return name.partition(":")[0] == RESOURCE


def _card_options(settings: Settings) -> dict[str, Any]:
    """What the card is opened with; a trace would grow with every batch of a long job."""
    options: dict[str, Any] = {"trace": False, "fallback": False}
    if settings.fpga_card is not None:
        options["card"] = settings.fpga_card
    if settings.fpga_faults is not None:
        options["faults"] = settings.fpga_faults
    return options
