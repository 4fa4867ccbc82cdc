"""Run batches on the device of the query, and on another only where the query allows it.

A device that fails or hangs is tried once more. One that failed `BREAKER` times within a minute
is left alone for a minute, so that a broken card does not cost every batch its timeout.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from accel import TensorSpec
from accel.errors import CardError, DeviceError

Arrays = dict[str, np.ndarray[Any, Any]]
Identity = tuple[str, tuple[object, ...]]
BREAKER = 3
WINDOW_S = 60.0


class Runs(Protocol):
    """What a device computes with: a Program, or what stands around one."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """Names of the outputs of `run`."""
        ...

    def run(self, x: Any) -> Any:
        """Outputs of any number of rows, as `Program.run`."""
        ...


@dataclass(frozen=True)
class Choice:
    """One device that may compute.

    Attributes
    ----------
    device : its name.
    program : gets its program.
    forget : lets go of the program.
    timeout_s : how long one batch may take; None sets no limit.
    options : what else it was opened with; a failure counts for the device so opened.
    """

    device: str
    program: Callable[[], Runs]
    forget: Callable[[], None] = lambda: None
    timeout_s: float | None = None
    options: tuple[object, ...] = ()

    @property
    def identity(self) -> Identity:
        """What failures are counted by."""
        return self.device, self.options


class Breaker:
    """Failures of each device within the last minute."""

    def __init__(self) -> None:
        self._failures: defaultdict[Identity, deque[float]] = defaultdict(
            lambda: deque(maxlen=BREAKER)
        )

    def is_open(self, device: Identity) -> bool:
        """Whether the device is to be left alone."""
        failures = self._failures[device]
        return len(failures) == BREAKER and time.monotonic() - failures[0] < WINDOW_S

    def failed(self, device: Identity) -> None:
        """Count one failure."""
        self._failures[device].append(time.monotonic())


class Guard:
    """Computes batches.

    Parameters
    ----------
    choices : the device of the query, then those that may take its place.
    breaker : shared by all tasks of a worker.
    """

    def __init__(self, choices: Sequence[Choice], breaker: Breaker | None = None) -> None:
        self._choices = choices
        self._breaker = breaker or Breaker()

    def run(self, inputs: Arrays) -> tuple[Arrays, str]:
        """Outputs of one batch by name, and the name of the device that computed them.

        Raises
        ------
        CardError, DeviceError
            Every device failed, or is left alone after its failures.
        """
        reasons: list[str] = []
        for choice in self._choices:
            for _ in range(2):
                if self._breaker.is_open(choice.identity):
                    reasons.append(f"{choice.device} failed {BREAKER} times in {WINDOW_S:.0f} s "
                                   "and is left alone")  # fmt: skip
                    break
                try:
                    return _compute(choice, inputs), choice.device
                except DeviceError as err:  # it is not there: a second try finds the same
                    reasons.append(str(err))
                    break
                except CardError as err:
                    self._breaker.failed(choice.identity)
                    reasons.append(str(err))
        raise CardError(
            f"no device computed a batch: {'; '.join(dict.fromkeys(reasons))}; let another take "
            "its place with the setting spark.accel.fallback"
        )


def _compute(choice: Choice, inputs: Arrays) -> Arrays:
    program = choice.program()
    if choice.timeout_s is None:
        found = program.run(inputs)
    else:
        try:
            found = _within(choice.timeout_s, lambda: program.run(inputs))
        except TimeoutError:
            choice.forget()  # whoever waits in it goes on waiting
            raise CardError(
                f"{choice.device} gave no answer within {choice.timeout_s:g} s "
                "(spark.accel.fpga.timeoutMs)"
            ) from None
    return found if isinstance(found, dict) else {program.outputs[0].name: found}


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """The result of `work`, or TimeoutError; its thread is left behind then."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as err:
            future.set_exception(err)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)
