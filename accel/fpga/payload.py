"""The bytes of a descriptor on their way, and what may flip among them."""

from __future__ import annotations

import zlib

from accel.fpga.faults import Fault, Faults
from accel.fpga.memory import Memory
from accel.fpga.ring import Descriptor, Flag

CHECK = int(Flag.CHECK)


class Payload:
    """Copies between memories; counts corrected memory errors in `counts`."""

    def __init__(self, faults: Faults, counts: dict[str, int]) -> None:
        self.faults = faults
        self.counts = counts

    def move(
        self,
        here: Memory,
        there: Memory,
        descriptor: Descriptor,
        checksum: int = 0,
        check_target: bool = False,
    ) -> int | None:
        """Copy the bytes, with whatever flips on the way; return the CRC-32 if one is asked for.

        It is that of the bytes before the link, or of those behind it with `check_target`.
        """
        if here.blank(descriptor.source) or there.blank(descriptor.destination):
            return None
        source = here.view(descriptor.source, descriptor.length)
        target = there.view(descriptor.destination, descriptor.length)
        target[:] = source
        self.counts["ecc_corrected"] += self.faults.fires(Fault.ECC_CORRECTED)
        if self.faults.fires(Fault.PAYLOAD_FLIPPED):
            bit = self.faults.pick(Fault.PAYLOAD_FLIPPED, target.size * 8)
            target[bit // 8] ^= 1 << (bit % 8)
        if not descriptor.flags & CHECK:
            return None
        return zlib.crc32((target if check_target else source).data, checksum)
