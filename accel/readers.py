"""Which forms of each value of a schedule somebody reads."""

from __future__ import annotations

from accel.schedule import (
    HostGroup,
    PoolCall,
    ProductCall,
    SampleCall,
    Schedule,
    ViewCall,
)

Key = tuple[str, bool, int | None, bool]


class Readers:
    """What is wanted of every value.

    Attributes
    ----------
    plain : values wanted in the model's own layout.
    floats : values wanted channels last; True: as a matrix.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.plain: set[str] = set(schedule.outputs)
        self.floats: dict[str, bool] = {}
        self._products: dict[str, list[ProductCall]] = {}
        for call in schedule.calls:
            if isinstance(call, HostGroup | ViewCall):
                self.plain.update(call.reads)
            elif isinstance(call, ProductCall):
                self._products.setdefault(call.x, []).append(call)
                if call.window is None:  # read plane by plane, or as raw pixels
                    self.plain.add(call.x)
                if call.epilogue.residual is not None:
                    self.floats[call.epilogue.residual] = call.rows
            elif isinstance(call, PoolCall | SampleCall):
                self.floats[call.x] = False
        for call in schedule.calls:
            if isinstance(call, HostGroup | ViewCall):
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

    def halo(self, key: Key) -> tuple[int, int, int, int]:
        """The widest padding of the products that read these windows."""
        pads = [r.pads for r in self.products(key[0]) if windows_key(key[0], r) == key]
        top, left, bottom, right = (max(p) for p in zip(*pads, strict=True))
        return top, left, bottom, right

    def _changes_form(self, name: str, rows: bool) -> bool:
        """Whether a matrix is read as an image or an image as a matrix."""
        forms = {r.rows for r in self.products(name)}
        forms.add(self.floats.get(name, rows))
        return forms != {rows}


def windows_key(name: str, reader: ProductCall) -> Key:
    """Readers of equal keys share one quantized tensor."""
    return (name, reader.rows, reader.window, reader.signed)
