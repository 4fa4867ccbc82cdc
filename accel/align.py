"""Let the values of stored tensors begin at multiples of four bytes from each other, by comments of
a few spaces. A compressor that knows how long values are then finds each of their bytes again."""

from __future__ import annotations

import onnx
from onnx import TensorProto

BYTES = 4
_KINDS = (TensorProto.FLOAT, TensorProto.INT16)  # longer than a byte
_COMMENT = 2 + BYTES  # bytes of the longest comment, with its tag and length


def align_values(tensors: list[onnx.TensorProto]) -> None:
    """Align in place; the tensors are written in this order."""
    position = 0  # of the entry from the values of the first
    before: onnx.TensorProto | None = None
    for tensor in tensors:
        if _varint(tensor.ByteSize()) < _varint(tensor.ByteSize() + _COMMENT):
            tensor.doc_string = " " * _COMMENT  # or a shorter one would move its own values
        if before is None:
            position = -_bytes_ahead(tensor)
        shift = -(position + _bytes_ahead(tensor)) % BYTES
        if before is not None and shift and tensor.data_type in _KINDS:
            position -= _entry(before)
            held = len(before.doc_string)  # a first comment takes two bytes more
            before.doc_string = " " * (held + shift if held else (shift - 3) % BYTES + 1)
            position += _entry(before)
        position += _entry(tensor)
        before = tensor


def _entry(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor in its graph, with its tag and length."""
    size: int = tensor.ByteSize()
    return 1 + _varint(size) + size


def _bytes_ahead(tensor: onnx.TensorProto) -> int:
    """Those of an entry before its values, which follow all but a comment."""
    comment = 2 + len(tensor.doc_string) if tensor.HasField("doc_string") else 0
    return _entry(tensor) - len(tensor.raw_data) - comment


def _varint(value: int) -> int:
    return max(1, (value.bit_length() + 6) // 7)
