"""The descriptors of one frame of a network: which bytes each moves, and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field

from accel.fpga.network import Network
from accel.fpga.ring import Flag

MAX_PIECE = 4 << 20
"""Bytes of one descriptor at most; larger arrays take several."""

Piece = tuple[int, int, Flag]
"""First byte, bytes, and flags of a descriptor."""


@dataclass
class Plan:
    """Pieces of a network's inputs and outputs; bytes count from the first of either."""

    network: Network
    inputs: list[Piece] = field(init=False)
    outputs: list[Piece] = field(init=False)

    def __post_init__(self) -> None:
        check = Flag(0) if self.network.blank else Flag.CHECK
        self.inputs = _pieces(self.network.input_bytes, Flag.RUN | check)
        self.outputs = _pieces(self.network.output_bytes, Flag.AFTER | check)

    @property
    def longest(self) -> int:
        """Descriptors in the fuller of the two rings."""
        return max(len(self.inputs), len(self.outputs))


def _pieces(n_bytes: int, flags: Flag) -> list[Piece]:
    starts = range(0, n_bytes, MAX_PIECE)
    return [
        (
            start,
            min(MAX_PIECE, n_bytes - start),
            flags
            | (Flag.FIRST if start == 0 else Flag(0))
            | (Flag.LAST if start + MAX_PIECE >= n_bytes else Flag(0)),
        )
        for start in starts
    ]
