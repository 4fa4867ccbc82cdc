"""Read a model file with a bound on its size, unpacking .xz."""

from __future__ import annotations

import lzma
from pathlib import Path

from accel.errors import ModelError

MAX_MODEL_BYTES = 2 << 30  # the protobuf limit; nothing larger can be a valid ONNX file


def read_file(path: Path) -> bytes:
    """Content of a file.

    Raises
    ------
    ModelError
        Missing, not a file, too large, unreadable, or not valid .xz data.
    """
    if not path.exists():
        raise ModelError(f"cannot read model {str(path)!r}: no such file; check the path")
    if not path.is_file():
        raise ModelError(f"cannot read model {str(path)!r}: not a file; expected a model file")
    size = path.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise ModelError(
            f"cannot read model {str(path)!r}: {size} bytes, at most {MAX_MODEL_BYTES} are read"
        )
    try:
        data = path.read_bytes()
    except OSError as err:
        raise ModelError(f"cannot read model {str(path)!r}: {err.strerror}") from None
    return unpack_xz(data, str(path), MAX_MODEL_BYTES) if path.suffix == ".xz" else data


def unpack_xz(data: bytes, name: str, limit: int) -> bytes:
    """Decompress .xz data, refusing more than `limit` bytes before they are allocated."""
    try:
        unpacker = lzma.LZMADecompressor(memlimit=1 << 30)
        unpacked = unpacker.decompress(data, max_length=limit + 1)
    except (lzma.LZMAError, MemoryError) as err:
        raise ModelError(f"cannot read model {name!r}: not valid .xz data ({err})") from None
    if len(unpacked) > limit:
        raise ModelError(f"cannot read model {name!r}: unpacks to more than {limit} bytes")
    if not unpacker.eof:
        raise ModelError(f"cannot read model {name!r}: the .xz data is truncated")
    return unpacked
