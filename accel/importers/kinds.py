"""Tell the format of a model file: by its signature where it has one, else by its suffix."""

from __future__ import annotations

import zipfile
from pathlib import Path

from accel.errors import ModelError

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_BY_SUFFIX = {".h5": "keras", ".hdf5": "keras", ".keras": "keras"}


def kind_of(path: Path) -> str:
    """The importer for a file: ``onnx``, ``keras``.

    Raises
    ------
    ModelError
        A folder, or a file that cannot be read.
    """
    if not path.is_file():
        raise ModelError(f"cannot read model {str(path)!r}: not a file; expected a model file")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as err:
        raise ModelError(f"cannot read model {str(path)!r}: {err.strerror}") from None
    if head.startswith(_HDF5):
        return "keras"
    if head.startswith(_ZIP):
        return _kind_of_zip(path)
    return _BY_SUFFIX.get(path.suffix.lower(), "onnx")


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as err:
        raise ModelError(f"cannot read model {str(path)!r}: a damaged zip file ({err})") from None
    if "config.json" in names:
        return "keras"
    raise ModelError(f"cannot read model {str(path)!r}: a zip file without a model that is known")
