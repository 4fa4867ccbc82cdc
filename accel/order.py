"""Order: what is to be compiled, for which device, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accel.errors import InputError
from accel.tensor_spec import MAX_BATCH

if TYPE_CHECKING:
    from accel.device import Device
    from accel.model import Model

MAX_THREADS = 256


@dataclass(frozen=True)
class Order:
    """A checked call of `Device.compile`, which explains the fields.

    Raises
    ------
    InputError
        A batch size or number of threads out of range.
    """

    device: Device
    model: Model
    batch_size: int | None = None
    threads: int = 1
    strict: bool = False
    shapes: Mapping[str, Sequence[int]] | None = None
    winograd: bool = True

    def __post_init__(self) -> None:
        if self.batch_size is not None and not 1 <= self.batch_size <= MAX_BATCH:
            raise InputError(f"batch_size is {self.batch_size}; expected 1..{MAX_BATCH}")
        check_threads(self.threads)


def check_threads(threads: int) -> None:
    """Raise InputError unless so many worker threads are possible."""
    if not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads is {threads}; expected 1..{MAX_THREADS}")
