"""Programs that come back from a file, ready to run: nothing is lowered or packed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from accel.detection.description import from_json
from accel.detection.spec import DetectorSpec
from accel.device import device
from accel.errors import AccelError, ModelError
from accel.order import check_threads
from accel.tensor_spec import fix_shapes

if TYPE_CHECKING:
    from accel.backends.cpu import PlanProgram
    from accel.program_file import SavedProgram


class SavedModel:
    """What a program keeps of the model that it was compiled from."""

    def __init__(self, saved: SavedProgram) -> None:
        self.name, self.inputs, self.outputs = saved.name, saved.inputs, saved.outputs
        self._detector = saved.detector

    @cached_property
    def detector_spec(self) -> DetectorSpec | None:
        """How `Detector` reads the outputs."""
        return None if self._detector is None else from_json(self._detector)

    def fixed_shapes(
        self, batch_size: int | None, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> dict[str, tuple[int, ...]]:
        """See `Model.fixed_shapes`."""
        return fix_shapes(self.name, self.inputs, batch_size, shapes)


def load_program(path: str | Path, threads: int = 1) -> PlanProgram:
    """A program of the device `cpu` that `Program.save` wrote.

    Its weights are mapped: processes that load the same file share them, and only what a run
    touches is read.

    Parameters
    ----------
    threads : worker threads, 1..256; any number may use the same file.

    Raises
    ------
    ModelError
        Missing, truncated, corrupt, or no program file.
    DeviceError
        Packed for an instruction set that is not the one in use.
    InputError
        `threads` out of range.
    """
    from accel.backends.cpu import PlanProgram
    from accel.program_file import read_program

    check_threads(threads)
    saved, packed = read_program(path)
    try:
        return PlanProgram.restore(device("cpu"), saved, packed, threads)
    except (AccelError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError,
            OSError, TypeError, ValueError) as err:  # fmt: skip
        raise ModelError(
            f"cannot read program {str(path)!r}: its parts do not fit together "
            f"({type(err).__name__}: {err}); save it again"
        ) from None
