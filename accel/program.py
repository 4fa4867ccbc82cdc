"""Program: a Model compiled for a Device. Job: a batch given to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from accel.detection.spec import DetectorSpec
from accel.errors import InputError, UnsupportedError
from accel.explain import Explanation
from accel.order import Order
from accel.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from accel.device import Device

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


class Job:
    """A submitted batch.

    Attributes
    ----------
    simulated_ns : time on the simulated card from submission to completion, in ns; None on
        devices that are not simulated, and before the job is done.
    """

    def __init__(self, future: Future[Array | Arrays]) -> None:
        self._future = future
        self.simulated_ns: int | None = None

    def result(self, timeout: float | None = None) -> Array | Arrays:
        """Wait for the outputs; raises what the run raised, or TimeoutError after `timeout` s."""
        try:
            return self._future.result(timeout)
        except FutureTimeout:
            raise TimeoutError(f"job not done after {timeout} s; it is still running") from None

    def done(self) -> bool:
        """Whether `result` would return at once."""
        return self._future.done()


class Network(Protocol):
    """What a program knows of its model, or of the file that it came from."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def detector_spec(self) -> DetectorSpec | None: ...
    def fixed_shapes(
        self, batch_size: int | None, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> dict[str, tuple[int, ...]]: ...


class Program:
    """A compiled model. Subclasses implement `_execute` and `explain`.

    One run at a time: calls from several Python threads wait for each other.
    """

    def __init__(self, order: Order) -> None:
        self._describe(order.device, order.model, order.batch_size, order.threads, order.shapes)

    def _describe(
        self,
        device: Device,
        model: Network,
        batch_size: int | None,
        threads: int,
        shapes: Mapping[str, Sequence[int]] | None,
    ) -> None:
        """What every program knows of itself."""
        self.device = device
        self.model = model
        self.threads = threads
        self.shapes = model.fixed_shapes(batch_size, shapes)
        self.batch_size = next((s[0] for s in self.shapes.values() if s), batch_size or 1)
        self.inputs = tuple(TensorSpec(s.name, self.shapes[s.name], s.dtype) for s in model.inputs)
        self.outputs = tuple(self._filled(s) for s in model.outputs)
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    @property
    def label(self) -> str:
        """The device in words for a person: its name, and what it chose where it chooses."""
        return self.device.name

    def run(self, x: Any) -> Array | Arrays:
        """Compute the outputs for any number of rows.

        Parameters
        ----------
        x : one array, or a dict of arrays by input name; leading dimension N is free, the rest
            as in `inputs`, dtype as in `inputs`.

        Returns
        -------
        One array, or a dict by output name where the model has several outputs.

        Raises
        ------
        InputError
            Wrong name, shape or dtype, or NaN or infinity in a float input.
        """
        arrays, rows = self._checked(x)
        with self._lock:
            outputs = self._run_batches(arrays, rows)
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def submit(self, x: Any) -> Job:
        """Start a run in the background; input errors are raised here, not in the job."""
        self._checked(x)
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, f"accel-{self.device.name}")
        return Job(self._executor.submit(self.run, x))

    def explain(self) -> Explanation:
        """Which node runs where."""
        raise NotImplementedError

    def save(self, path: str | Path) -> Path:
        """Write the program with its packed weights, for `accel.load_program`.

        Raises
        ------
        UnsupportedError
            The device's programs cannot be saved; those of `cpu` can.
        ModelError
            The folder does not exist.
        """
        raise UnsupportedError(
            f"programs of device {self.device.name!r} cannot be saved; compile for 'cpu', or save "
            "the model with model.save()"
        )

    def profile(self, x: Any = None, repeats: int = 20) -> Explanation:
        """`explain` with times: of every node where the device can tell, of the batch in any case.

        Parameters
        ----------
        x : one batch of inputs, as for `run`; None: noise.
        repeats : runs, of which the medians are given; 1..10000.

        Raises
        ------
        InputError
            Wrong inputs, or `repeats` out of range.
        """
        if not 1 <= repeats <= 10_000:
            raise InputError(f"repeats is {repeats}; expected 1..10000")
        arrays, rows = self._checked(self.noise() if x is None else x)
        if rows != self.batch_size:
            raise InputError(f"x has {rows} rows; expected one batch of {self.batch_size}")
        with self._lock:
            return self._profile(arrays, repeats)

    def _profile(self, inputs: Arrays, repeats: int) -> Explanation:
        found, ms = self.explain(), 1e3 * self.batch_seconds(inputs, repeats)
        return replace(
            found, notes=(f"one batch: {ms:.3f} ms, median of {repeats} runs", *found.notes)
        )

    def batch_seconds(self, inputs: Arrays, repeats: int) -> float:
        """Median time of one batch, in s, without checks of the input."""
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self._execute(inputs)
            times.append(time.perf_counter() - start)
        return float(np.median(times))

    def noise(self) -> Arrays:
        """One batch of inputs to try the program on: normal floats, integers of 0 and 1."""
        rng = np.random.default_rng(0)
        found = {}
        for spec in self.inputs:
            shape = tuple(d or 1 for d in spec.shape)
            if spec.dtype.kind == "f":
                found[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
            else:
                found[spec.name] = rng.integers(0, 2, shape).astype(spec.dtype)
        return found

    def _execute(self, inputs: Arrays) -> Arrays:
        """Run exactly one batch of checked, C-contiguous arrays; the outputs are the caller's."""
        raise NotImplementedError

    def _filled(self, spec: TensorSpec) -> TensorSpec:
        shape = spec.shape
        if shape and shape[0] is None:
            shape = (self.batch_size, *shape[1:])
        return TensorSpec(spec.name, shape, spec.dtype)

    def _run_batches(self, arrays: Arrays, rows: int) -> Arrays:
        size = self.batch_size
        if rows == size:
            return self._execute(arrays)
        parts: list[Arrays] = []
        for start in range(0, rows, size):
            count = min(size, rows - start)
            parts.append(self._execute({n: _pad(a[start : start + count], size)
                                        for n, a in arrays.items()}))  # fmt: skip
        return {name: self._join(name, [p[name] for p in parts], rows) for name in parts[0]}

    def _join(self, name: str, parts: list[Array], rows: int) -> Array:
        if any(p.ndim == 0 or p.shape[0] != self.batch_size for p in parts):
            raise UnsupportedError(
                f"output {name!r} has shape {parts[0].shape}, which does not follow the batch of "
                f"{self.batch_size}; run exactly {self.batch_size} rows, not {rows}"
            )
        return np.concatenate(parts)[:rows]

    def _checked(self, x: Any) -> tuple[Arrays, int]:
        arrays = self._by_name(x)
        for spec in self.inputs:
            arrays[spec.name] = _checked_array(spec, arrays[spec.name])
        if all(arrays[s.name].shape == s.shape for s in self.inputs):
            return arrays, self.batch_size  # one batch, also of inputs that do not follow it
        rows = {name: (a.shape[0] if a.ndim else 1) for name, a in arrays.items()}
        if len(set(rows.values())) > 1:
            raise InputError(f"inputs have different numbers of rows: {rows}; expected the same")
        if not self.batch_size:
            raise InputError(f"inputs have {rows} rows; the model's file fixes the batch at 0 rows")
        return arrays, next(iter(rows.values()), 1)

    def _by_name(self, x: Any) -> Arrays:
        names = [s.name for s in self.inputs]
        if not isinstance(x, dict):
            if len(names) != 1:
                raise InputError(f"the model has inputs {names}; give a dict of arrays by name")
            return {names[0]: x}
        unknown, missing = set(x) - set(names), set(names) - set(x)
        if unknown or missing:
            raise InputError(
                f"inputs given: {sorted(map(str, x))}, expected: {names}"
                + (f"; unknown: {sorted(map(str, unknown))}" if unknown else "")
                + (f"; missing: {sorted(missing)}" if missing else "")
            )
        return dict(x)


def _checked_array(spec: TensorSpec, value: Any) -> Array:
    if not isinstance(value, np.ndarray):
        raise InputError(
            f"input {spec.name!r} is a {type(value).__name__}; expected a NumPy array of "
            f"{spec.dtype} {_free(spec)}"
        )
    if value.dtype != spec.dtype:
        raise InputError(
            f"input {spec.name!r} has dtype {value.dtype}, expected {spec.dtype}; "
            f"convert it with x.astype({str(spec.dtype)!r})"
        )
    fits = value.ndim == len(spec.shape) and all(
        want is None or have == want
        for have, want in zip(value.shape[1:], spec.shape[1:], strict=True)
    )
    if not fits or (value.size == 0 and value.shape != spec.shape):
        raise InputError(f"input {spec.name!r} has shape {value.shape}, expected {_free(spec)}")
    if value.dtype.kind == "f" and not _all_finite(value):
        raise InputError(
            f"input {spec.name!r} holds NaN or infinity in "
            f"{int((~np.isfinite(value)).sum())} of {value.size} places; clean it first"
        )
    return value if value.flags.c_contiguous else value.copy(order="C")


def _all_finite(value: Array) -> bool:
    with np.errstate(all="ignore"):  # one cheap pass; a finite sum proves all are finite
        if np.isfinite(value.sum()):
            return True
    return bool(np.isfinite(value).all())


def _free(spec: TensorSpec) -> str:
    dims = ["N", *(str(d) if d is not None else "any" for d in spec.shape[1:])]
    return f"({', '.join(dims[: len(spec.shape)])})"


def _pad(rows: Array, size: int) -> Array:
    if len(rows) == size:
        return rows
    padding = np.repeat(rows[-1:], size - len(rows), axis=0)  # real rows: no odd values
    return np.concatenate([rows, padding])
