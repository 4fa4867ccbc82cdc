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
    own : whether our own int8 code (on ``mkl``: MKL's int8 product) executes them.
    note : anything a reader must know.
    """

    node: str
    op: str
    where: str
    kernel: str = ""
    window: int | None = None
    macs: int = 0
    own: bool = False
    note: str = ""


@dataclass(frozen=True)
class Explanation:
    """Answer of `Program.explain`; `str()` gives a table.

    Attributes
    ----------
    share : own multiplications over all of Conv, Gemm and MatMul, 0..1; 1.0 without any.
    """

    model: str
    device: str
    batch_size: int
    threads: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

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
        cells = [("node", "operator", "where", "kernel", "window", "MMAC", "note")]
        cells += [
            (r.node, r.op, r.where, r.kernel, str(r.window or ""), _mega(r.macs), r.note)
            for r in self.rows
        ]
        widths = [max(len(c[i]) for c in cells) for i in range(7)]
        lines = ["  ".join(v.ljust(w) for v, w in zip(c, widths, strict=True)) for c in cells]
        return "\n".join([head, *self.notes, *(line.rstrip() for line in lines)])


def _mega(macs: int) -> str:
    return f"{macs / 1e6:.2f}" if macs else ""
