"""Where the values of a plan lie.

Every value lives in up to three forms: `plain` in the model's own layout, `nhwc` float32 with
channels last, and `windows` of uint8 with their scales. A form exists only where a reader wants
it; where layouts coincide they share memory, and the parts of a concatenation are slices of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from accel import kernels
from accel.arena import Arena
from accel.forms import Floats, Form, Windows
from accel.readers import Key, Readers, windows_key
from accel.schedule import JoinCall, NearestCall, ProductCall, Schedule, ViewCall
from accel.steps import Run, Step


@dataclass(frozen=True)
class Target:
    """Where a call writes: float channels last, windows, or both."""

    floats: Floats | None
    windows: Windows | None

    @property
    def forms(self) -> tuple[Form, ...]:
        """Those that there are."""
        return tuple(f for f in (self.floats, self.windows) if f is not None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of either, channels last."""
        return self.forms[0].shape


class Values:
    """Forms of all values, and the steps that convert one form into another.

    Parameters
    ----------
    steps : conversions are appended here, in the order in which values are made.

    Attributes
    ----------
    node : name of the call whose values are being made.
    slices : windows of a whole into which its parts are written.
    """

    def __init__(
        self, schedule: Schedule, arena: Arena, pool: kernels.Pool, steps: list[Step]
    ) -> None:
        self.readers = Readers(schedule)
        self.node = ""
        self._schedule, self._arena, self._pool, self._steps = schedule, arena, pool, steps
        self.plain = {name: Floats.constant(a) for name, a in schedule.constants.items()}
        self.floats: dict[str, Floats] = {}
        self.slices: dict[str, Windows] = {}
        self._windows: dict[Key, Windows] = {}

    def add_input(self, name: str) -> None:
        """Make room for a graph input and its conversions."""
        self.make_plain(name)
        self.convert(name)

    def make_plain(self, name: str) -> None:
        """Make room in the model's own layout, where the shape is known."""
        shape = self._schedule.shapes.get(name)
        if shape is not None and name in self._schedule.dtypes and name not in self.plain:
            self.plain[name] = Floats.reserve(self._arena, shape, self._schedule.dtypes[name])

    def target(self, name: str, rows: bool) -> Target:
        """Room for the output of a call of our kernels, in the forms that it can write itself."""
        direct = self.readers.direct(name, rows)
        keys = {windows_key(name, r) for r in self.readers.products(name)}
        wanted = name in self.readers.plain or name in self.readers.floats
        if name in self.readers.plain:
            self.make_plain(name)
        if wanted or len(keys) > bool(direct):
            self._make_floats(name, rows)
        windows = self.slices.get(name)
        if windows is None and direct is not None:
            windows = self.make_windows(name, direct)
        return Target(self.floats.get(name), windows)

    def make_floats(self, name: str) -> Floats:
        """Room channels last, for an image whose producer writes nothing else."""
        if name in self.readers.plain:
            self.make_plain(name)
        return self._make_floats(name, rows=False)

    def convert_floats(self, name: str) -> None:
        """Add the steps that bring a fresh value of `make_floats` into its other forms."""
        self._convert(name, set(), from_floats=True)

    def convert(self, name: str, rows: bool | None = None) -> None:
        """Add the steps that bring a fresh value into the forms that `target` did not cover.

        Parameters
        ----------
        rows : form in which a call of our kernels made it; None: it was made plain.
        """
        direct = None if rows is None else self.readers.direct(name, rows)
        made = {windows_key(name, direct)} if direct else set()
        self._convert(name, made, rows is not None)

    def windows(self, call: ProductCall) -> Windows:
        """The quantized input of a product."""
        return self._windows[windows_key(call.x, call)]

    def residual(self, call: ProductCall) -> Form | None:
        """What is added to the sums of a product, None if nothing is."""
        name = call.epilogue.residual
        if name is None or name in self.readers.shortcuts:
            return None
        reader = self.readers.residual(name)
        return self.nhwc(name, call.rows) if reader is None else self.make_windows(name, reader)

    def pooled(self, name: str) -> Form:
        """What a pooling reads."""
        reader = self.readers.pool(name)
        return self.nhwc(name) if reader is None else self.make_windows(name, reader)

    def copied(self, call: NearestCall) -> tuple[Form, Form]:
        """What a nearest-neighbour resize reads and writes: windows alike, or floats."""
        reader = self.readers.copied(call.y)
        if reader is None:
            return self.nhwc(call.x), self.make_floats(call.y)
        target = self.slices.get(call.y) or self.make_windows(call.y, reader)
        return self.make_windows(call.x, replace(reader, x=call.x)), target

    def make_windows(self, name: str, reader: ProductCall) -> Windows:
        """Room for a value in the windows of a reader."""
        key = windows_key(name, reader)
        if key not in self._windows:
            shape = self.shape(name)
            if reader.border is None:
                shape = nhwc_shape(shape, reader.rows)
            if reader.rests:
                shape = (*shape[:-1], 2 * shape[-1])
            self._windows[key] = Windows.reserve(
                self._arena, shape, reader.window, reader.zero_point, self.readers.halo(key),
                reader.border, reader.rests,
            )  # fmt: skip
        return self._windows[key]

    def nhwc(self, name: str, rows: bool = False) -> Floats:
        """Channels-last form of a value that exists already, converted once."""
        target = nhwc_shape(self.shape(name), rows)
        held = self.floats.get(name)
        if held is not None and held.shape == target:
            return held
        plain = self.plain[name]
        if _same_layout(plain.shape, rows):
            return plain.reshape(target)
        made = Floats.reserve(self._arena, target)
        source = plain.reshape((target[0], target[3], target[1], target[2]))
        self.add((source, made), lambda: kernels.ToNHWC(source.array, made.array, self._pool))
        self.floats[name] = made
        return made

    def join(self, call: JoinCall) -> None:
        """Copy the parts that were not written in place, then convert the whole."""
        whole = self.floats.get(call.y)
        if whole is not None:
            for part, start, end in self.ranges(call):
                source, place = self.nhwc(part), whole.channels(start, end)
                if not source.is_at(place):
                    self._copy(source, place)
        made = {key for key in self._windows if key[0] == call.y}
        self._convert(call.y, made, from_floats=True)

    def view(self, call: ViewCall) -> None:
        """Give the same bytes another shape."""
        last = call.channels_last
        source = self._contiguous(self.nhwc(call.x)) if last else self.plain[call.x]
        self.plain[call.y] = source.reshape(self.shape(call.y))
        self.convert(call.y)

    def ranges(self, call: JoinCall) -> list[tuple[str, int, int]]:
        """Each part of a concatenation with its first and last channel in the whole."""
        ends = np.cumsum([self.shape(part)[1] for part in call.parts]).tolist()
        return list(zip(call.parts, [0, *ends[:-1]], ends, strict=True))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value in the model's own layout."""
        shape = self._schedule.shapes[name]
        if shape is None:
            raise AssertionError(f"value {name!r} has no fixed shape")  # lower() ruled this out
        return shape

    def add(self, touches: tuple[Form, ...], bind: Callable[[], Run], own: bool = True) -> None:
        """Append a step of the call that is being added."""
        self._steps.append(Step(self.node, touches, bind, own))

    def _convert(self, name: str, made: set[Key], from_floats: bool) -> None:
        if from_floats and name in self.plain:
            self._to_plain(name)
        for reader in self.readers.products(name):
            key = windows_key(name, reader)
            if key not in made:
                made.add(key)
                self._quantize(name, reader)
        if name in self.readers.floats:
            self.nhwc(name, self.readers.floats[name])

    def _quantize(self, name: str, reader: ProductCall) -> None:
        target, pool = self.make_windows(name, reader), self._pool
        if reader.border is not None:
            pixels = self.plain[name]
            self.add((pixels, target), lambda: kernels.Pixels(pixels.array, target.tensor, pool))
            return
        if reader.window is None:
            planes = self.plain[name]
            self.add(
                (planes, target),
                lambda: kernels.QuantizePlanes(planes.array, target.tensor, pool),
            )
            return
        source = self._contiguous(self.nhwc(name, reader.rows))
        self.add((source, target), lambda: kernels.Quantize(source.array, target.tensor, pool))

    def _make_floats(self, name: str, rows: bool) -> Floats:
        if name in self.floats:
            return self.floats[name]
        shape = self.shape(name)
        target = nhwc_shape(shape, rows)
        plain = self.plain.get(name)
        if plain is not None and _same_layout(shape, rows):
            self.floats[name] = plain.reshape(target)
        else:
            self.floats[name] = Floats.reserve(self._arena, target)
        return self.floats[name]

    def _to_plain(self, name: str) -> None:
        source, plain = self.floats[name], self.plain[name]
        if source.is_at(plain):
            return
        n, h, w, c = source.shape
        target = plain.reshape((n, c, h, w))
        if source.contiguous:
            pool = self._pool
            self.add((source, target), lambda: kernels.ToNCHW(source.array, target.array, pool))
        else:
            self.add(
                (source, target),
                lambda: _copier(source.array.transpose(0, 3, 1, 2), target.array),
                own=False,
            )

    def _contiguous(self, source: Floats) -> Floats:
        if source.contiguous:
            return source
        copied = Floats.reserve(self._arena, source.shape)
        self._copy(source, copied)
        return copied

    def _copy(self, source: Floats, target: Floats) -> None:
        self.add((source, target), lambda: _copier(source.array, target.array), own=False)


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


def _copier(source: np.ndarray, target: np.ndarray) -> Run:
    return lambda: np.copyto(target, source)
