"""Tell the format of a model file: by its signature where it has one, else by its suffix."""

from __future__ import annotations

import zipfile
from pathlib import Path

from accel.errors import ModelError

_HDF5, _ZIP, _TFLITE = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"TFL3"
_BY_SUFFIX = {
    ".h5": "keras", ".hdf5": "keras", ".keras": "keras", ".tflite": "tflite", ".pt": "torchscript",
    ".pth": "torchscript", ".th": "torchscript", ".ckpt": "torchscript",
}  # fmt: skip


def kind_of(path: Path) -> str:
    """The importer for a file or folder: ``onnx``, ``keras``, ``tensorflow``, ``tflite``,
    ``torchscript``.

    Raises
    ------
    ModelError
        A folder that is no SavedModel, or a file that cannot be read.
    """
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return "tensorflow"
    if not path.is_file():
        raise ModelError(
            f"cannot read model {str(path)!r}: not a file, nor a folder with a saved_model.pb"
        )
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as err:
        raise ModelError(f"cannot read model {str(path)!r}: {err.strerror}") from None
    if head.startswith(_HDF5):
        return "keras"
    if head.startswith(_ZIP):
        return _kind_of_zip(path)
    if head[4:8] == _TFLITE:
        return "tflite"
    if path.suffix == ".pb" and not head.startswith(b"\x08"):  # ONNX starts with its ir_version
        return "tensorflow"
    return _BY_SUFFIX.get(path.suffix.lower(), "onnx")


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as err:
        raise ModelError(f"cannot read model {str(path)!r}: a damaged zip file ({err})") from None
    if path.suffix == ".pt2" or any(name.endswith("/models/model.json") for name in names):
        raise ModelError(
            f"cannot read {str(path)!r}: PyTorch's .pt2 files hold code that runs when they are "
            "read; where you trust it: accel.load(torch.export.load(path))"
        )
    if "config.json" in names:
        return "keras"
    if any("/code/" in name for name in names) or path.suffix in _BY_SUFFIX:
        return "torchscript"
    raise ModelError(f"cannot read model {str(path)!r}: a zip file without a model that is known")
