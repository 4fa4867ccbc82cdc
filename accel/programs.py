"""Programs: a Model on a Device for inputs of any shape, compiled once for each set of shapes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.device import Device
from accel.errors import InputError
from accel.program import Array, Arrays, Program

if TYPE_CHECKING:
    from accel.model import Model

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class Programs:
    """Compiles a program when inputs of new shapes come, and keeps the last ones.

    A `Program` has one batch size and pads to it; here each batch size has a program of its own,
    and so has each length of a sentence.

    Parameters
    ----------
    keep : programs that are kept, at least 1; the one unused for longest goes first.
    threads, strict : as for `Device.compile`.

    Example
    -------
    >>> programs = accel.Programs(accel.device("cpu"), model)
    >>> programs.run({"input_ids": ids, "attention_mask": mask})   # of any length
    """

    def __init__(
        self, device: Device, model: Model, threads: int = 1, strict: bool = False, keep: int = 8
    ) -> None:
        if keep < 1:
            raise InputError(f"keep is {keep}; expected at least 1")
        self.device, self.model = device, model
        self._threads, self._strict, self._keep = threads, strict, keep
        self._programs: OrderedDict[Shapes, Program] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Programs held."""
        return len(self._programs)

    def run(self, x: Any) -> Array | Arrays:
        """Compute the outputs of one batch, as `Program.run` does; raises what it raises."""
        names = [spec.name for spec in self.model.inputs]
        if not isinstance(x, dict) and len(names) != 1:
            raise InputError(f"the model has inputs {names}; give a dict of arrays by name")
        arrays = x if isinstance(x, dict) else {names[0]: x}
        return self.program({n: np.shape(a) for n, a in arrays.items()}).run(x)

    def program(self, shapes: dict[str, Sequence[int]]) -> Program:
        """The program for full input shapes by name.

        Raises
        ------
        ModelError
            Shapes that do not fit the model.
        """
        known = {spec.name for spec in self.model.inputs}
        full = {name: tuple(shape) for name, shape in shapes.items() if name in known}
        key = tuple(sorted(full.items()))
        with self._lock:
            if key not in self._programs:
                self._programs[key] = self.device.compile(
                    self.model, threads=self._threads, strict=self._strict, shapes=full
                )
            self._programs.move_to_end(key)
            if len(self._programs) > self._keep:
                self._programs.popitem(last=False)
            return self._programs[key]
