"""What a compiled program does where: rows of nodes, and the share of multiplications that run
on int8 code of our own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One node of the program.

    Attributes
    ----------
    node, op : name and operator, with what is fused behind it (``Conv+Add+Relu``).
    where : ``cpu``, ``mkl``, ``onnxruntime``, ``openvino`` or ``fpga:0``.
    kernel : the micro-kernel or the engine's precision.
    window : activation window, None where the node has none.
    macs : multiplications per batch.
    bytes : read and written per batch, weights included; 0 where it is not known.
    seconds : measured for one batch (`Program.profile`), else None.
    own : whether our own int8 code (on ``mkl``: MKL's int8 product) executes them.
    note : anything a reader must know.
    """

    node: str
    op: str
    where: str
    kernel: str = ""
    window: int | None = None
    macs: int = 0
    bytes: int = 0
    seconds: float | None = None
    own: bool = False
    note: str = ""


@dataclass(frozen=True)
class Explanation:
    """Answer of `Program.explain`; `str()` gives a table.

    Attributes
    ----------
    peak : multiplications per second of the dot instruction alone on all threads, where it was
        measured (`Program.profile`).
    share : own multiplications over all of Conv, Gemm and MatMul, 0..1; 1.0 without any.
    """

    model: str
    device: str
    batch_size: int
    threads: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())
    peak: float | None = None

    @property
    def share(self) -> float:
        total = sum(r.macs for r in self.rows)
        return 1.0 if total == 0 else sum(r.macs for r in self.rows if r.own) / total

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "share": self.share}

    def __str__(self) -> str:
        head = (
            f"{self.model} on {self.device}, batch {self.batch_size}, {self.threads} thread(s): "
            f"{self.share:.1%} of the multiplications of Conv, Gemm and MatMul in own int8 code"
        )
        titles = (
            "node",
            "operator",
            "where",
            "kernel",
            "window",
            "MMAC",
            "KB",
            "us",
            "peak",
            "note",
        )
        cells: list[tuple[str, ...]] = [titles, *(self._cells(row) for row in self.rows)]
        used = [i for i in range(len(titles)) if i == 0 or any(c[i] for c in cells[1:])]
        cells = [tuple(c[i] for i in used) for c in cells]
        widths = [max(len(c[i]) for c in cells) for i in range(len(used))]
        lines = ["  ".join(v.ljust(w) for v, w in zip(c, widths, strict=True)) for c in cells]
        return "\n".join([head, *self.notes, *(line.rstrip() for line in lines)])

    def _cells(self, r: Row) -> tuple[str, ...]:
        return (
            r.node, r.op, r.where, r.kernel, str(r.window or ""), _scaled(r.macs, 1e6, 2),
            _scaled(r.bytes, 1e3, 1), _scaled(r.seconds, 1e-6, 1), self._of_peak(r), r.note,
        )  # fmt: skip

    def _of_peak(self, row: Row) -> str:
        if not self.peak or not row.seconds or not row.own:
            return ""
        return f"{row.macs / row.seconds / self.peak:.0%}"


def _scaled(value: float | None, unit: float, digits: int) -> str:
    return f"{value / unit:.{digits}f}" if value else ""
