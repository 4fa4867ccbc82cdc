"""Which forms of each value of a schedule somebody reads."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from accel.pairs import find_pairs, find_pooled, find_shortcuts
from accel.schedule import (
    ColumnsCall,
    HostGroup,
    LinearCall,
    MatMulCall,
    NearestCall,
    PoolCall,
    ProductCall,
    SampleCall,
    Schedule,
    ViewCall,
)

LARGE_BYTES = 256 * 1024  # of an image in float32: what a core's L2 does not keep

Key = tuple[str, bool, int | None, int]


class Readers:
    """What is wanted of every value.

    Attributes
    ----------
    plain : values wanted in the model's own layout.
    floats : values wanted channels last; True: as a matrix.
    pairs, shortcuts, pooled : products whose results nobody reads, because the depthwise one behind
        them, the one that adds them or the maximum of them makes them.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.plain: set[str] = set(schedule.outputs)
        self.floats: dict[str, bool] = {}
        self.pairs = find_pairs(schedule)
        self.shortcuts = find_shortcuts(schedule)
        self.pooled = find_pooled(schedule)
        self._products: dict[str, list[ProductCall]] = {}
        self._residuals: dict[str, list[ProductCall]] = {}
        for call in schedule.calls:
            if isinstance(call, ViewCall) and call.channels_last:
                self.floats[call.x] = False
            elif isinstance(call, ColumnsCall | HostGroup | MatMulCall | ViewCall):
                self.plain.update(call.reads)
            elif isinstance(call, ProductCall):
                if call.x not in self.pairs:
                    self._products.setdefault(call.x, []).append(call)
                if call.window is None:  # read plane by plane, or as raw pixels
                    self.plain.add(call.x)
                residual = call.epilogue.residual
                if residual is not None and residual not in self.shortcuts:
                    self._residuals.setdefault(residual, []).append(call)
            elif isinstance(call, LinearCall | SampleCall):
                self.floats[call.x] = False
        self._pooled = self._choose_pools(schedule)
        self._quantized = self._choose_residuals(schedule)
        self._copied = self._choose_copies(schedule)
        for call in schedule.calls:
            if isinstance(call, ColumnsCall | HostGroup | MatMulCall | ViewCall):
                continue
            rows = isinstance(call, ProductCall) and call.rows
            if self._changes_form(call.y, rows):
                self.plain.add(call.y)

    def products(self, name: str) -> list[ProductCall]:
        """The products that read a value in windows."""
        return self._products.get(name, [])

    def direct(self, name: str, rows: bool) -> ProductCall | None:
        """The product whose windows the producer's epilogue can write itself."""
        return next((r for r in self.products(name) if r.rows == rows), None)

    def residual(self, name: str) -> ProductCall | None:
        """The product whose windows of a value serve as residual too; None: floats do."""
        return self._quantized.get(name)

    def pool(self, name: str) -> ProductCall | None:
        """Whose windows a pooling of the value reads; None: it reads floats."""
        return self._pooled.get(name)

    def copied(self, name: str) -> ProductCall | None:
        """Whose windows a resize that makes the value copies; None: it copies floats."""
        return self._copied.get(name)

    def halo(self, key: Key) -> tuple[int, int, int, int]:
        """The widest padding of the products that read these windows."""
        pads = [r.pads for r in self.products(key[0]) if windows_key(key[0], r) == key]
        top, left, bottom, right = (max(p) for p in zip(*pads, strict=True))
        return top, left, bottom, right

    def _choose_pools(self, schedule: Schedule) -> dict[str, ProductCall]:
        """A maximum of a large image is taken from windows like those that the product behind it
        reads: floats would move four times the bytes.
        """
        found = {}
        pools = [call for call in schedule.calls if isinstance(call, PoolCall)]
        pools = [call for call in pools if call.x not in self.pooled]
        for call in pools:
            reader = self.direct(call.y, rows=False)
            alone = sum(other.x == call.x for other in pools) == 1
            kept = call.average or not alone or call.x in self.floats or call.x in self.plain
            large = _is_large(schedule.shapes[call.x])
            if reader is not None and reader.window is not None and large and not kept:
                found[call.x] = replace(reader, x=call.x, pads=(0, 0, 0, 0))
                self._products.setdefault(call.x, []).append(found[call.x])
            else:
                self.floats[call.x] = False
        return found

    def _choose_residuals(self, schedule: Schedule) -> dict[str, ProductCall]:
        """Large images that a product reads in windows anyway are not kept as floats as well, which
        would move eight times the bytes. Small ones are: they cost no time, and nothing is rounded.
        """
        found = {}
        for name, calls in self._residuals.items():
            reader = self.direct(name, rows=False)
            shape = schedule.shapes[name]
            rows = any(c.rows for c in calls)
            kept = name in self.floats or name in self.plain or rows or not _is_large(shape)
            if reader is not None and not kept and _serves(reader.window, shape):
                found[name] = reader
            else:
                self.floats[name] = calls[0].rows
        return found

    def _choose_copies(self, schedule: Schedule) -> dict[str, ProductCall]:
        """Windows are copied where nothing else is wanted of the larger image."""
        found = {}
        for call in reversed(schedule.calls):
            if not isinstance(call, NearestCall):
                continue
            reader, kept = self.direct(call.y, rows=False), call.y in {*self.floats, *self.plain}
            alone = len({windows_key(call.y, r) for r in self.products(call.y)}) == 1
            if reader is not None and reader.window is not None and alone and not kept:
                found[call.y] = reader
                own = replace(reader, x=call.x, pads=(0, 0, 0, 0))
                self._products.setdefault(call.x, []).append(own)
            else:
                self.floats[call.x] = False
        return found

    def _changes_form(self, name: str, rows: bool) -> bool:
        """Whether a matrix is read as an image or an image as a matrix."""
        forms = {r.rows for r in self.products(name)}
        forms.add(self.floats.get(name, rows))
        return forms != {rows}


def _is_large(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and 4 * prod(shape[1:]) >= LARGE_BYTES


def _serves(window: int | None, shape: tuple[int, ...] | None) -> bool:
    """Whether the kernels can add a residual of such windows."""
    if window is None or shape is None:
        return False
    return window >= shape[1] or (window >= 16 and window & (window - 1) == 0)


def windows_key(name: str, reader: ProductCall) -> Key:
    """Readers of equal keys share one quantized tensor."""
    return (name, reader.rows, reader.window, reader.zero_point)
