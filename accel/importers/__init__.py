"""Importers: a file of some format in, a graph (`onnx_ir.Model`) out.

The format is told by the content where it has a signature, else by the suffix; what has neither is
read as ONNX.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx_ir as ir

from accel.errors import ModelError
from accel.importers import onnx as onnx_importer
from accel.importers.caffe import import_caffe
from accel.importers.exported import import_exported, is_exported
from accel.importers.files import read_file
from accel.importers.isolated import import_isolated
from accel.importers.kinds import kind_of

Source = str | Path | bytes | tuple[str | Path, str | Path] | Any  # Any: an ExportedProgram


def import_model(source: Source) -> tuple[ir.Model, str]:
    """Read a model from a path, from bytes, from Caffe's two paths, or from an ExportedProgram.

    Returns
    -------
    graph, name : the graph at opset 21 or later, and a short name for messages.

    Raises
    ------
    ModelError
        No such file, not a model, truncated, corrupt or too large.
    UnsupportedError
        A valid model with an operator that is not known.
    """
    if isinstance(source, bytes):
        return _import_bytes(source), "model"
    if isinstance(source, tuple):
        prototxt, caffemodel = _caffe_pair(source)
        return import_caffe(prototxt, caffemodel), prototxt.stem
    if is_exported(source):
        return import_exported(source), "model"
    if not isinstance(source, (str, Path)):
        raise ModelError(
            f"cannot load a {type(source).__name__}; expected a path, bytes, a pair of Caffe's "
            "paths, or what torch.export.export gives"
        )
    path = Path(source)
    if not path.exists():
        raise ModelError(f"cannot read model {str(path)!r}: no such file; check the path")
    if path.suffix in (".caffemodel", ".prototxt"):
        prototxt, caffemodel = _find_caffe_pair(path)
        return import_caffe(prototxt, caffemodel), prototxt.stem
    kind = kind_of(path)
    if kind != "onnx":
        return import_isolated(kind, path), path.stem
    data = read_file(path)
    name = path.name.removesuffix(".xz").removesuffix(".onnx")
    return onnx_importer.import_bytes(data, name=str(path), folder=path.parent), name


def _import_bytes(data: bytes) -> ir.Model:
    with tempfile.TemporaryDirectory(prefix="accel-import-") as folder:
        path = Path(folder, "model")
        path.write_bytes(data)
        kind = kind_of(path)
        if kind != "onnx":
            return import_isolated(kind, path)
    return onnx_importer.import_bytes(data, name="model", folder=None)


def _caffe_pair(pair: tuple[str | Path, ...]) -> tuple[Path, Path]:
    paths = {Path(p).suffix: Path(p) for p in pair}
    if len(pair) != 2 or set(paths) != {".prototxt", ".caffemodel"}:
        raise ModelError(
            f"cannot read model {tuple(str(p) for p in pair)}: a pair of paths is a Caffe "
            "network; expected (prototxt, caffemodel)"
        )
    return paths[".prototxt"], paths[".caffemodel"]


def _find_caffe_pair(path: Path) -> tuple[Path, Path]:
    """The other file of a Caffe network: of the same stem, or whose name continues the stem."""
    forward = path.suffix == ".prototxt"
    other = ".caffemodel" if forward else ".prototxt"
    found = [path.with_suffix(other)]
    if not found[0].is_file():  # lenet.prototxt, lenet_iter_10000.caffemodel
        found = [
            p
            for p in sorted(path.parent.iterdir())
            if p.suffix == other and _continues(*((p, path) if forward else (path, p)))
        ]
    if len(found) != 1:
        raise ModelError(
            f"cannot read model {str(path)!r}: {len(found)} matching {other} files beside it; "
            "give both: accel.load((prototxt, caffemodel))"
        )
    return (path, found[0]) if forward else (found[0], path)


def _continues(caffemodel: Path, prototxt: Path) -> bool:
    return caffemodel.stem.startswith(f"{prototxt.stem}_")
