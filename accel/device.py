"""Devices: named targets that compile a Model into a Program. Each file of `accel.backends`
adds one kind; nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from accel import backends
from accel.errors import DeviceError
from accel.order import Order
from accel.program import Program

if TYPE_CHECKING:
    from accel.model import Model

ORDER = ("cpu", "mkl", "openvino", "onnxruntime", "fpga", "auto")


@dataclass(frozen=True)
class DeviceInfo:
    """Name of a device, whether it can be used here, and why or why not."""

    name: str
    available: bool
    detail: str


class Device:
    """A target.

    Parameters
    ----------
    make : compiles what is ordered.
    """

    def __init__(self, name: str, make: Callable[[Order], Program]) -> None:
        self.name = name
        self.make = make

    def __repr__(self) -> str:
        return f"<Device {self.name}>"

    def compile(
        self,
        model: Model,
        batch_size: int | None = None,
        threads: int = 1,
        strict: bool = False,
        shapes: Mapping[str, Sequence[int]] | None = None,
        winograd: bool = True,
    ) -> Program:
        """Compile a model.

        Parameters
        ----------
        batch_size : rows computed at once, default 1. A model whose batch is fixed in the file
            keeps its own; `Program.run` takes any number of rows either way.
        threads : worker threads, 1..256.
        strict : refuse operators that our kernels do not run.
        shapes : full input shapes by name, for models with free inner dimensions.
        winograd : let large 3x3 layers of our kernels take two thirds of their products, which adds
            to the error of such networks (docs/design.md); other engines do as they do.

        Raises
        ------
        InputError
            A batch size or number of threads out of range.
        ModelError
            Not quantized where it must be, or shapes that do not fit.
        UnsupportedError
            An operator that nothing here can run, or any foreign operator when `strict`.
        """
        return self.make(Order(self, model, batch_size, threads, strict, shapes, winograd))


class Backend(Protocol):
    """What a file in `accel.backends` must define."""

    def availability(self) -> tuple[bool, str]:
        """Whether the engine is installed, with its version or the pip command."""
        ...

    def open_device(self, index: int, **options: Any) -> Device:
        """The device of this kind with this number."""
        ...


def kinds() -> tuple[str, ...]:
    """Names of all backends, the usual order first."""
    found = {m.name for m in pkgutil.iter_modules(backends.__path__) if m.name[0] != "_"}
    return tuple(k for k in ORDER if k in found) + tuple(sorted(found - set(ORDER)))


def devices() -> list[DeviceInfo]:
    """All devices, with those that are not installed."""
    return [device_info(kind) for kind in kinds()]


def device_info(kind: str) -> DeviceInfo:
    """Whether one kind of device can be used here, and why or why not."""
    return DeviceInfo(kind, *_backend(kind).availability())


def device(name: str, **options: Any) -> Device:
    """Open a device by name, ``kind`` or ``kind:index``.

    Raises
    ------
    DeviceError
        Unknown name, unknown option, or an engine that is not installed (the message says how
        to install it).
    """
    kind, _, number = str(name).partition(":")
    index = int(number) if number.isdecimal() and len(number) < 4 else -1
    if kind not in kinds() or (number and index < 0):
        raise DeviceError(f"device {name!r} not found; available: {', '.join(kinds())}")
    module = _backend(kind)
    available, detail = module.availability()
    if not available:
        raise DeviceError(f"device {name!r} is not available: {detail}")
    try:
        return module.open_device(max(index, 0), **options)
    except TypeError as err:
        if options:
            raise DeviceError(f"device {name!r} does not take {sorted(options)}: {err}") from None
        raise


def _backend(kind: str) -> Backend:
    module: Backend = importlib.import_module(f"accel.backends.{kind}")
    return module
