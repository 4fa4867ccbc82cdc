"""The buffers of requests under way: pinned host memory, and frames in card memory."""

from __future__ import annotations

from accel.errors import CardError
from accel.fpga.memory import Buffer, Memory
from accel.fpga.network import Network

Slot = tuple[Buffer, Buffer, Buffer]
"""Buffers of one request: pinned inputs, pinned outputs, and the frame in card memory."""

PAGE = 4096


class Slots:
    """Allocates and frees the buffers of requests."""

    def __init__(self, host: Memory, memory: Memory) -> None:
        self._host = host
        self._memory = memory
        self._blank: dict[tuple[int, int], list[Slot]] = {}

    def allocate(self, network: Network) -> Slot:
        """Return buffers for one frame. Raises CardError, and takes nothing, when one fails."""
        blank = network.blank
        if blank and (kept := self._blank.get((network.input_bytes, network.output_bytes))):
            return kept.pop()
        frame = self._memory.allocate(network.frame_bytes, PAGE, blank)
        try:
            pinned = self._host.allocate(network.input_bytes, PAGE, blank)
            return pinned, self._host.allocate(network.output_bytes, PAGE, blank), frame
        except CardError:
            self._memory.free(frame)
            raise

    def free(self, slot: Slot) -> None:
        """Give the buffers back; their bytes are poisoned. Blank ones are kept for the next."""
        pinned, results, frame = slot
        if self._memory.blank(frame.address):
            self._blank.setdefault((pinned.n_bytes, results.n_bytes), []).append(slot)
            return
        self._host.free(pinned)
        self._host.free(results)
        self._memory.free(frame)
