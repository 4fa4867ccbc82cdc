"""Compiled programs in a file: packed weights that are mapped, and the schedule as JSON.

Layout: 8 bytes of magic, the length of the header and its CRC-32 (u64 and u32, little endian), the
header (JSON, UTF-8), then blobs, each at a multiple of 64 bytes.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from accel import kernels
from accel.errors import AccelError, DeviceError, ModelError
from accel.new_file import new_file
from accel.packed import PackedFor
from accel.records import decode, encode
from accel.schedule import Call, ProductCall, Schedule
from accel.tensor_spec import TensorSpec

MAGIC = b"LWPROG1\n"
HEAD = struct.Struct("<8sQI")
MAX_HEADER = 64 << 20
ALIGN = 64

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SavedProgram:
    """What a program file holds beside its blobs.

    Attributes
    ----------
    isa : instruction set whose order the packed weights have.
    detector : the description of a detector as JSON, None where the model is none.
    weights : for every product of the schedule, in its order, the number of its blob.
    """

    name: str
    isa: str
    batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    detector: str | None
    schedule: Schedule
    weights: tuple[int, ...]


def write_program(path: str | Path, program: SavedProgram, packed: PackedFor) -> Path:
    """Write a program file; a reader never sees half of it.

    Parameters
    ----------
    program : without `weights`, which are taken from `packed`.
    """
    blobs = _Blobs()
    calls = program.schedule.calls
    weights = tuple(blobs.put(packed(c).blob) for c in calls if isinstance(c, ProductCall))
    bare = tuple(_without_weights(c) for c in calls)
    saved = replace(program, schedule=replace(program.schedule, calls=bare), weights=weights)
    record = encode(saved, blobs)
    header = json.dumps({"program": record, "lengths": [len(b) for b in blobs.held]}).encode()
    with new_file(path) as file:
        file.write(HEAD.pack(MAGIC, len(header), zlib.crc32(header)) + header)
        for blob in blobs.held:
            _pad(file)
            file.write(blob.data)
        _pad(file)
    return Path(path)


def read_program(path: str | Path) -> tuple[SavedProgram, PackedFor]:
    """Map a program file.

    Returns
    -------
    The program, and where the weights of its products lie.

    Raises
    ------
    ModelError
        Missing, truncated, corrupt, or no program file.
    DeviceError
        Packed for an instruction set that is not the one in use.
    """
    try:
        with Path(path).open("rb") as file:
            header, first = _header(file, str(path))
            whole: Array = np.frombuffer(
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8
            )
    except (OSError, ValueError) as err:
        if isinstance(err, AccelError):
            raise
        raise ModelError(f"cannot read program {str(path)!r}: {err}") from None
    try:
        blobs = _Mapped(whole, first, decode(tuple[int, ...], header["lengths"], _Blobs()))
        saved: SavedProgram = decode(SavedProgram, header["program"], blobs)
    except (KeyError, TypeError, ModelError) as err:
        raise ModelError(f"cannot read program {str(path)!r}: {err}; save it again") from None
    if saved.isa != kernels.isa():
        raise DeviceError(
            f"program {str(path)!r} was packed for {saved.isa}, and this process uses "
            f"{kernels.isa()}; compile the model here and save it again"
        )
    return saved, _mapped_weights(saved, blobs)


def _without_weights(call: Call) -> Call:
    return replace(call, qw=None, scale=None) if isinstance(call, ProductCall) else call


def _mapped_weights(saved: SavedProgram, blobs: _Mapped) -> PackedFor:
    products = [c for c in saved.schedule.calls if isinstance(c, ProductCall)]
    if len(products) != len(saved.weights):
        raise ModelError(f"{len(products)} products have {len(saved.weights)} blobs of weights")
    numbers = {c.y: number for c, number in zip(products, saved.weights, strict=True)}

    def packed(call: ProductCall) -> kernels.PackedWeights:
        return kernels.map_weights(
            blobs.get(numbers[call.y]),
            call.shape,
            call.window,
            weight_window=call.weight_window,
            signed=call.zero_point,
            groups=call.groups,
            fine=call.fine,
            winograd=call.winograd,
        )

    return packed


def _header(file: BinaryIO, path: str) -> tuple[dict[str, Any], int]:
    """The header, and where the first blob may begin."""
    head = file.read(HEAD.size)
    if len(head) < HEAD.size or not head.startswith(MAGIC):
        raise ModelError(
            f"{path!r} is no program file; expected one that Program.save() wrote, got "
            f"{head[:8]!r} at its start"
        )
    _, length, crc = HEAD.unpack(head)
    text = file.read(length) if length <= MAX_HEADER else b""
    if len(text) != length or zlib.crc32(text) != crc:
        raise ModelError(f"program {path!r} is truncated or corrupt; save it again")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ModelError(f"program {path!r} is corrupt; save it again")
    return header, HEAD.size + length


class _Blobs:
    """Blobs on their way into a file."""

    def __init__(self) -> None:
        self.held: list[Array] = []

    def put(self, data: Array) -> int:
        self.held.append(data)
        return len(self.held) - 1

    def get(self, number: Any) -> Array:
        held: Array = self.held[number]
        return held


class _Mapped:
    """Blobs of a mapped file."""

    def __init__(self, whole: Array, first: int, lengths: tuple[int, ...]) -> None:
        self._held: list[Array] = []
        at = first
        for length in lengths:
            at = -(-at // ALIGN) * ALIGN
            if length < 0 or at + length > len(whole):
                raise ModelError(f"a blob of {length} bytes at {at} exceeds {len(whole)} bytes")
            self._held.append(whole[at : at + length])
            at += length

    def put(self, data: Array) -> int:
        raise AssertionError("a mapped file is not written")

    def get(self, number: Any) -> Array:
        if type(number) is not int or not 0 <= number < len(self._held):
            raise ModelError(f"blob {number!r} of {len(self._held)}")
        held: Array = self._held[number]
        return held


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % ALIGN))
