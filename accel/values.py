"""Where the values of a plan lie.

Every value lives in up to three forms: `plain` in the model's own layout, `nhwc` float32 with
channels last, and `windows` of uint8 with their scales. A form exists only where a reader wants
it; where layouts coincide they share memory, and the parts of a concatenation are slices of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel import kernels
from accel.schedule import HostGroup, JoinCall, PoolCall, ProductCall, Schedule, ViewCall

Array = np.ndarray[Any, Any]
Key = tuple[str, bool, int | None, bool]


@dataclass(frozen=True)
class Target:
    """Where a call writes: float channels last, windows, or both."""

    dst: Array | None
    dst_q: kernels.QTensor | None


class Values:
    """Buffers of all values, and the steps that convert one form into another.

    Parameters
    ----------
    steps : conversions are appended here, in the order in which values are made.
    """

    def __init__(
        self, schedule: Schedule, pool: kernels.Pool, steps: list[Callable[[], None]]
    ) -> None:
        self._schedule, self._pool, self._steps = schedule, pool, steps
        self.plain: dict[str, Array] = dict(schedule.constants)
        self._nhwc: dict[str, Array] = {}
        self._windows: dict[Key, kernels.QTensor] = {}
        self._slices: dict[str, kernels.QTensor] = {}  # parts written into the whole's windows
        self._readers: dict[str, list[ProductCall]] = {}
        self._images: dict[str, bool] = {}  # wanted as nhwc; True: as a matrix
        self._wanted_plain: set[str] = set(schedule.outputs)
        self._collect_readers()
        self._place_joins()

    def add_input(self, name: str) -> None:
        """Make room for a graph input and its conversions."""
        self.make_plain(name)
        self.convert(name)

    def make_plain(self, name: str) -> None:
        """Make room in the model's own layout, where the shape is known."""
        shape = self._schedule.shapes.get(name)
        if shape is not None and name in self._schedule.dtypes and name not in self.plain:
            self.plain[name] = np.zeros(shape, self._schedule.dtypes[name])

    def target(self, name: str, rows: bool) -> Target:
        """Room for the output of a call of our kernels, in the forms that it can write itself."""
        direct = self._direct_reader(name, rows)
        keys = {self._key(name, r) for r in self._readers.get(name, [])}
        if name in self._wanted_plain:
            self.make_plain(name)
        if name in self._wanted_plain or name in self._images or len(keys) > bool(direct):
            self._make_nhwc(name, rows)
        dst_q = self._slices.get(name)
        if dst_q is None and direct is not None:
            dst_q = self._make_windows(name, direct)
        return Target(self._nhwc.get(name), dst_q)

    def convert(self, name: str, rows: bool | None = None) -> None:
        """Add the steps that bring a fresh value into the forms that `target` did not cover.

        Parameters
        ----------
        rows : form in which a call of our kernels made it; None: it was made plain.
        """
        direct = None if rows is None else self._direct_reader(name, rows)
        self._convert(name, {self._key(name, direct)} if direct else set(), rows is not None)

    def _convert(self, name: str, made: set[Key], from_nhwc: bool) -> None:
        if from_nhwc and name in self.plain:
            self._to_plain(name)
        for reader in self._readers.get(name, []):
            key = self._key(name, reader)
            if key not in made:
                made.add(key)
                target = self._make_windows(name, reader)
                self._steps.append(self._quantize(name, reader, target))
        if name in self._images:
            self.nhwc(name, self._images[name])

    def _quantize(
        self, name: str, reader: ProductCall, target: kernels.QTensor
    ) -> Callable[[], None]:
        if reader.border is not None:
            return kernels.Pixels(self.plain[name], target, self._pool)
        source = self._contiguous(self.nhwc(name, reader.rows))
        return kernels.Quantize(source, target, self._pool)

    def windows(self, call: ProductCall) -> kernels.QTensor:
        """The quantized input of a product."""
        return self._windows[self._key(call.x, call)]

    def nhwc(self, name: str, rows: bool = False) -> Array:
        """Channels-last form of a value that exists already, converted once."""
        target = nhwc_shape(self._shape(name), rows)
        held = self._nhwc.get(name)
        if held is not None and held.shape == target:
            return held
        plain = self.plain[name]
        if _same_layout(plain.shape, rows):
            return plain.reshape(target)
        array = np.zeros(target, np.float32)
        source = plain.reshape(target[0], target[3], target[1], target[2])
        self._steps.append(kernels.ToNHWC(source, array, self._pool))
        self._nhwc[name] = array
        return array

    def join(self, call: JoinCall) -> None:
        """Copy the parts that were not written in place, then convert the whole."""
        whole = self._nhwc.get(call.y)
        if whole is not None:
            for part, start, end in self._ranges(call):
                source, place = self.nhwc(part), whole[..., start:end]
                if not np.shares_memory(source, place):
                    self._steps.append(_copy(place, source))
        made = {key for key in self._windows if key[0] == call.y}
        self._convert(call.y, made, from_nhwc=True)

    def view(self, call: ViewCall) -> None:
        """Give the same bytes another shape."""
        self.plain[call.y] = self.plain[call.x].reshape(self._shape(call.y))
        self.convert(call.y)

    def _collect_readers(self) -> None:
        for call in self._schedule.calls:
            if isinstance(call, HostGroup | ViewCall):
                self._wanted_plain.update(call.reads)
            elif isinstance(call, ProductCall):
                self._readers.setdefault(call.x, []).append(call)
                if call.epilogue.residual is not None:
                    self._images[call.epilogue.residual] = call.rows
            elif isinstance(call, PoolCall):
                self._images[call.x] = False
        for call in self._schedule.calls:
            if isinstance(call, ProductCall) and self._changes_form(call.y, call.rows):
                self._wanted_plain.add(call.y)
            if isinstance(call, PoolCall | JoinCall) and self._changes_form(call.y, False):
                self._wanted_plain.add(call.y)

    def _changes_form(self, name: str, rows: bool) -> bool:
        """Whether a matrix is read as an image or an image as a matrix."""
        forms = {r.rows for r in self._readers.get(name, [])}
        forms.add(self._images.get(name, rows))
        return forms != {rows}

    def _place_joins(self) -> None:
        """Give each concatenation its memory and let the parts be slices of it, outer first."""
        made = {c.y for c in self._schedule.calls if isinstance(c, PoolCall | JoinCall)}
        made |= {c.y for c in self._schedule.calls if isinstance(c, ProductCall) and not c.rows}
        for call in reversed(self._schedule.calls):
            if not isinstance(call, JoinCall):
                continue
            sliced = self._slice_windows(call, made)
            if not sliced or call.y in self._images or call.y in self._wanted_plain:
                self._slice_floats(call, made)
            if call.y in self._wanted_plain:
                self.make_plain(call.y)

    def _slice_floats(self, call: JoinCall, made: set[str]) -> None:
        if call.y not in self._nhwc:
            self._nhwc[call.y] = np.zeros(nhwc_shape(self._shape(call.y), False), np.float32)
        for part, start, end in self._ranges(call):
            self._images.setdefault(part, False)
            if part in made and part not in self._nhwc:
                self._nhwc[part] = self._nhwc[call.y][..., start:end]

    def _slice_windows(self, call: JoinCall, made: set[str]) -> bool:
        """Let the parts write into the windows of the whole, where all of them can."""
        readers = self._readers.get(call.y, [])
        ranges, whole = self._ranges(call), self._shape(call.y)[1]
        if len({self._key(call.y, r) for r in readers}) != 1 or readers[0].rows:
            return False
        reader, window = readers[0], readers[0].window or whole
        aligned = all(
            start % window == 0 and (end % window == 0 or end == whole) for _, start, end in ranges
        )
        once = len(set(call.parts)) == len(call.parts)
        free = all(p in made and p not in self._slices and not self._readers.get(p)
                   for p in call.parts)  # fmt: skip
        if not (aligned and once and free) or call.y in self._slices:
            return False
        windows = self._make_windows(call.y, reader)
        for part, start, end in ranges:
            self._slices[part] = windows.channels(start, end)
        return True

    def _ranges(self, call: JoinCall) -> list[tuple[str, int, int]]:
        """Each part with its first and last channel in the whole."""
        ends = np.cumsum([self._shape(part)[1] for part in call.parts]).tolist()
        return list(zip(call.parts, [0, *ends[:-1]], ends, strict=True))

    def _direct_reader(self, name: str, rows: bool) -> ProductCall | None:
        """The reader whose windows the producer's epilogue can write itself."""
        return next((r for r in self._readers.get(name, []) if r.rows == rows), None)

    def _key(self, name: str, reader: ProductCall) -> Key:
        return (name, reader.rows, reader.window, reader.signed)

    def _make_windows(self, name: str, reader: ProductCall) -> kernels.QTensor:
        key = self._key(name, reader)
        if key not in self._windows:
            halos = [r.pads for r in self._readers[name] if self._key(name, r) == key]
            top, left, bottom, right = (max(p) for p in zip(*halos, strict=True))
            shape, halo = self._shape(name), (top, left, bottom, right)
            if reader.border is None:
                shape = nhwc_shape(shape, reader.rows)
            self._windows[key] = kernels.QTensor(
                shape, reader.window, reader.signed, halo, border=reader.border
            )
        return self._windows[key]

    def _make_nhwc(self, name: str, rows: bool) -> None:
        if name in self._nhwc:
            return
        shape = self._shape(name)
        target = nhwc_shape(shape, rows)
        plain = self.plain.get(name)
        if plain is not None and _same_layout(shape, rows):
            self._nhwc[name] = plain.reshape(target)
        else:
            self._nhwc[name] = np.zeros(target, np.float32)

    def _to_plain(self, name: str) -> None:
        source, plain = self._nhwc[name], self.plain[name]
        if np.shares_memory(source, plain):
            return
        n, h, w, c = source.shape
        target = plain.reshape(n, c, h, w)
        if source.flags.c_contiguous:
            self._steps.append(kernels.ToNCHW(source, target, self._pool))
        else:
            self._steps.append(_copy(target, source.transpose(0, 3, 1, 2)))

    def _contiguous(self, source: Array) -> Array:
        if source.flags.c_contiguous:
            return source
        copied = np.zeros(source.shape, np.float32)
        self._steps.append(_copy(copied, source))
        return copied

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self._schedule.shapes[name]
        if shape is None:
            raise AssertionError(f"value {name!r} has no fixed shape")  # lower() ruled this out
        return shape


def nhwc_shape(shape: tuple[int, ...], rows: bool) -> tuple[int, int, int, int]:
    """Channels-last shape of an image (N, C, H, W) or (N, C, W), or of a matrix (..., K)."""
    if rows:
        return (1, 1, int(np.prod(shape[:-1])), shape[-1])
    if len(shape) == 3:
        return (shape[0], 1, shape[2], shape[1])
    n, c, h, w = shape
    return (n, h, w, c)


def _same_layout(shape: tuple[int, ...], rows: bool) -> bool:
    """Whether channels-last and the model's own layout are the same bytes."""
    return rows or shape[1] == 1 or int(np.prod(shape[2:])) == 1


def _copy(target: Array, source: Array) -> Callable[[], None]:
    return lambda: np.copyto(target, source)
