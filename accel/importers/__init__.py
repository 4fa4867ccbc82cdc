"""Importers: a file of some format in, a graph (`onnx_ir.Model`) out; one file per format."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from accel.errors import ModelError
from accel.importers import onnx as onnx_importer

MAX_MODEL_BYTES = 2 << 30  # the protobuf limit; nothing larger can be a valid ONNX file


def import_model(source: str | Path | bytes) -> tuple[ir.Model, str]:
    """Read a model from a path or from bytes.

    Returns
    -------
    graph, name : the graph at opset 21 or later, and a short name for messages.

    Raises
    ------
    ModelError
        No such file, not a model, truncated, corrupt or too large.
    """
    if isinstance(source, bytes):
        return onnx_importer.import_bytes(source, name="model", folder=None), "model"
    path = Path(source)
    if not path.exists():
        raise ModelError(f"cannot read model {str(path)!r}: no such file; check the path")
    if not path.is_file():
        raise ModelError(f"cannot read model {str(path)!r}: not a file; expected an .onnx file")
    size = path.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise ModelError(
            f"cannot read model {str(path)!r}: {size} bytes, at most {MAX_MODEL_BYTES} are read"
        )
    try:
        data = path.read_bytes()
    except OSError as err:
        raise ModelError(f"cannot read model {str(path)!r}: {err.strerror}") from None
    if path.suffix == ".xz":
        data = onnx_importer.unpack_xz(data, str(path), MAX_MODEL_BYTES)
    name = path.name.removesuffix(".xz").removesuffix(".onnx")
    return onnx_importer.import_bytes(data, name=str(path), folder=path.parent), name
