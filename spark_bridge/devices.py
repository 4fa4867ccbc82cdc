"""Open the device of a query: on the driver to try it, in a task to use it.

Where Spark hands out cards as a resource (``spark.task.resource.fpga.amount``), a task opens the
card it was given, so two tasks never share one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pyspark import TaskContext

import accel
from accel.backends.auto import AutoProgram
from accel.errors import DeviceError
from spark_bridge.settings import Settings

RESOURCE = "fpga"
Rows = tuple[accel.TensorSpec, ...]  # shape of one row of each input


def open_device(settings: Settings) -> accel.Device:
    """The device of these settings; in a task with a card of its own, that card.

    Raises
    ------
    DeviceError
        Unknown, not installed, or the task was given a card under a name that is no number.
    """
    name = device_name(settings.backend)
    return accel.device(name, **(_card_options(settings) if _is_card(name) else {}))


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

    The model is compiled for one row, so that a device refuses it before the job starts.

    Raises
    ------
    DeviceError, ModelError, UnsupportedError
    """
    device = open_device(settings)
    if settings.backend != "auto":
        compile_rows(device, model, rows, batch_size=1)
        return settings.backend
    program = compile_rows(device, model, rows, settings.batch_size, settings.threads or 1)
    return program.chosen if isinstance(program, AutoProgram) else device.name


def _is_card(name: str) -> bool:
    return name.partition(":")[0] == RESOURCE


def _card_options(settings: Settings) -> dict[str, Any]:
    """What the card is opened with; a trace would grow with every batch of a long job."""
    options: dict[str, Any] = {"trace": False}
    if settings.fpga_card is not None:
        options["card"] = settings.fpga_card
    if settings.fpga_fallback is not None:
        options["fallback"] = settings.fpga_fallback
    return options
