"""A plan: a schedule bound to memory. Shared by the devices that run our kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel import kernels
from accel.host import HostCall, open_session
from accel.lower import HostGroup, KernelCall, Schedule

Array = np.ndarray[Any, Any]
Halo = tuple[int, int, int, int]


class Plan:
    """Steps with their buffers. Built once; `run` only executes.

    Every value lives in up to three forms: `plain` in the model's own layout, `nhwc` float32
    with channels last, and windows of uint8 with their scales. A form exists only where a reader
    wants it; where layouts coincide they share memory.

    Parameters
    ----------
    gemm : address of MKL's ``cblas_gemm_s8u8s32``, or None for our own dot kernels.
    """

    def __init__(
        self, schedule: Schedule, name: str, threads: int, gemm: int | None = None
    ) -> None:
        self.schedule = schedule
        self._name = name
        self._threads = threads
        self._gemm = gemm
        self._pool = kernels.Pool(threads)
        self._plain: dict[str, Array] = dict(schedule.constants)
        self._nhwc: dict[str, Array] = {}
        self._windows: dict[tuple[str, bool, int, bool], kernels.QTensor] = {}
        self._loose: dict[str, Array] = {}
        self._steps: list[Callable[[], None]] = []
        self._readers: dict[str, list[KernelCall]] = {}
        self._residuals: dict[str, bool] = {}
        self._wanted_plain: set[str] = set(schedule.outputs)
        self._collect_readers()
        for value in schedule.inputs:
            self._make_plain(value)
            self._convert(value, None)
        for call in schedule.calls:
            if isinstance(call, KernelCall):
                self._add_kernel(call)
            else:
                self._add_host(call)

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Execute once; returns fresh arrays."""
        for name, array in inputs.items():
            np.copyto(self._plain[name], array)
        self._loose.clear()
        for step in self._steps:
            step()
        found = {}
        for name in self.schedule.outputs:
            held = self._plain.get(name)
            found[name] = self._loose[name] if held is None else held.copy()
        return found

    def _collect_readers(self) -> None:
        for call in self.schedule.calls:
            if isinstance(call, HostGroup):
                self._wanted_plain.update(call.reads)
                continue
            self._readers.setdefault(call.x, []).append(call)
            if call.epilogue.residual is not None:
                self._residuals[call.epilogue.residual] = call.rows
        for call in self.schedule.calls:
            if isinstance(call, KernelCall) and self._changes_form(call):
                self._wanted_plain.add(call.y)

    def _changes_form(self, call: KernelCall) -> bool:
        """Whether a matrix is read as an image or an image as a matrix."""
        forms = {r.rows for r in self._readers.get(call.y, [])}
        forms.add(self._residuals.get(call.y, call.rows))
        return forms != {call.rows}

    def _add_host(self, group: HostGroup) -> None:
        for name in group.writes:
            self._make_plain(name)
        session = open_session(group.data, self._threads, self._name)
        call = HostCall(
            session,
            {n: self._plain[n] for n in group.reads if n in self._plain},
            {n: self._plain[n] for n in group.writes if n in self._plain},
        )
        self._steps.append(lambda: call(self._loose))
        for name in group.writes:
            self._convert(name, None)

    def _add_kernel(self, call: KernelCall) -> None:
        y = call.y
        direct = self._first_window(y, call.rows)
        if y in self._wanted_plain:
            self._make_plain(y)
        if y in self._wanted_plain or y in self._residuals or self._extra_windows(y, direct):
            self._make_nhwc(y, call.rows)
        e = call.epilogue
        weights = kernels.pack_weights(
            call.qw,
            call.scale,
            call.window,
            weight_window=call.weight_window,
            signed=call.signed,
            groups=call.groups,
        )
        residual = None if e.residual is None else self._nhwc_of(e.residual, call.rows)
        self._steps.append(
            kernels.Conv(
                self._windows[(call.x, call.rows, call.window, call.signed)],
                weights,
                strides=call.strides,
                pads=call.pads,
                dilations=call.dilations,
                bias=call.bias,
                residual=residual,
                activation=e.activation,
                alpha=e.alpha,
                lo=e.lo,
                hi=e.hi,
                dst=self._nhwc.get(y),
                dst_q=None if direct is None else self._make_windows(y, direct),
                pool=self._pool,
                gemm=self._gemm,
            )
        )
        self._convert(y, call, direct)

    def _convert(
        self, name: str, producer: KernelCall | None, done: KernelCall | None = None
    ) -> None:
        """Add the steps that bring a fresh value into every other form that readers want."""
        made = {self._key(name, done)} if done is not None else set()
        if producer is not None and name in self._plain:
            self._to_plain(name)
        for reader in self._readers.get(name, []):
            key = self._key(name, reader)
            if key in made:
                continue
            made.add(key)
            source = self._nhwc_of(name, reader.rows)
            target = self._make_windows(name, reader)
            self._steps.append(kernels.Quantize(source, target, self._pool))
        if name in self._residuals:
            self._nhwc_of(name, self._residuals[name])

    def _first_window(self, name: str, rows: bool) -> KernelCall | None:
        """The reader whose windows the producer's epilogue can write itself."""
        return next((r for r in self._readers.get(name, []) if r.rows == rows), None)

    def _extra_windows(self, name: str, direct: KernelCall | None) -> bool:
        keys = {self._key(name, r) for r in self._readers.get(name, [])}
        return len(keys) > (direct is not None)

    def _key(self, name: str, reader: KernelCall) -> tuple[str, bool, int, bool]:
        return (name, reader.rows, reader.window, reader.signed)

    def _make_windows(self, name: str, reader: KernelCall) -> kernels.QTensor:
        key = self._key(name, reader)
        if key not in self._windows:
            halos = [r.pads for r in self._readers[name] if self._key(name, r) == key]
            top, left, bottom, right = (max(p) for p in zip(*halos, strict=True))
            self._windows[key] = kernels.QTensor(
                _nhwc_shape(self._shape(name), reader.rows),
                reader.window,
                reader.signed,
                (top, left, bottom, right),
            )
        return self._windows[key]

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self.schedule.shapes[name]
        if shape is None:
            raise AssertionError(f"value {name!r} has no fixed shape")  # lower() ruled this out
        return shape

    def _make_plain(self, name: str) -> None:
        shape = self.schedule.shapes.get(name)
        if shape is not None and name in self.schedule.dtypes and name not in self._plain:
            self._plain[name] = np.zeros(shape, self.schedule.dtypes[name])

    def _make_nhwc(self, name: str, rows: bool) -> None:
        shape = self._shape(name)
        target = _nhwc_shape(shape, rows)
        plain = self._plain.get(name)
        if plain is not None and _same_layout(shape, rows):
            self._nhwc[name] = plain.reshape(target)
        else:
            self._nhwc[name] = np.zeros(target, np.float32)

    def _nhwc_of(self, name: str, rows: bool) -> Array:
        """Channels-last form of a value that exists already, converted once."""
        target = _nhwc_shape(self._shape(name), rows)
        held = self._nhwc.get(name)
        if held is not None and held.shape == target:
            return held
        plain = self._plain[name]
        if _same_layout(plain.shape, rows):
            return plain.reshape(target)
        array = np.zeros(target, np.float32)
        source = plain.reshape(target[0], target[3], target[1], target[2])
        self._steps.append(kernels.ToNHWC(source, array, self._pool))
        self._nhwc[name] = array
        return array

    def _to_plain(self, name: str) -> None:
        source, plain = self._nhwc[name], self._plain[name]
        if not np.shares_memory(source, plain):
            n, h, w, c = source.shape
            self._steps.append(kernels.ToNCHW(source, plain.reshape(n, c, h, w), self._pool))


def _nhwc_shape(shape: tuple[int, ...], rows: bool) -> tuple[int, int, int, int]:
    if rows:
        return (1, 1, int(np.prod(shape[:-1])), shape[-1])
    if len(shape) == 3:
        return (shape[0], 1, shape[2], shape[1])
    n, c, h, w = shape
    return (n, h, w, c)


def _same_layout(shape: tuple[int, ...], rows: bool) -> bool:
    """Whether channels-last and the model's own layout are the same bytes."""
    return rows or shape[1] == 1 or int(np.prod(shape[2:])) == 1
