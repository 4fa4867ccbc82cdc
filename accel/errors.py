"""The errors that accel raises. Every message says what failed, what was given, what was
expected and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class AccelError(Exception):
    """Base of all errors raised on purpose by accel and spark_bridge."""


class ModelError(AccelError, ValueError):
    """A model file or graph cannot be used: missing, truncated, corrupt, or of a wrong kind."""


class InputError(AccelError, ValueError):
    """An array given to a program has a wrong name, shape, dtype or value."""


class DeviceError(AccelError, LookupError):
    """A device is unknown, or the engine behind it is not installed."""


class UnsupportedError(AccelError, NotImplementedError):
    """A valid model asks for something that the chosen device cannot do."""


class KernelError(AccelError, ValueError):
    """An array given to a kernel has a wrong dtype, shape, layout or value."""


class CardError(AccelError, RuntimeError):
    """The simulated card refused a request or reported a failure."""


class ImageError(AccelError, ValueError):
    """An image cannot be decoded, or claims a size beyond the limits.

    Attributes
    ----------
    code : str
        ``EMPTY``, ``UNREADABLE``, ``TOO_LARGE``, ``TOO_MANY_PIXELS``, ``TOO_SMALL`` or ``DECODE``.
    """

    def __init__(self, message: str, code: str = "DECODE") -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return type(self), (str(self), self.code)


@contextmanager
def as_model_error(name: str, action: str) -> Iterator[None]:
    """Turn what array code raises over the sizes of a damaged model into a ModelError.

    Passes trust a graph's arrays to fit together; whoever damaged a file decides that they do not,
    and every combination cannot be foreseen.
    """
    try:
        yield
    except AccelError:
        raise
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as err:
        raise ModelError(
            f"model {name!r} cannot be {action}: its arrays do not fit together: {err}"
        ) from err
