"""Run an importer in a process of its own, for formats that are read by native libraries: a
damaged file may crash or stall those, and must not take the caller along.

    python -m accel.importers.isolated <format> <path> <result>
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import onnx_ir as ir

from accel import errors
from accel import graph as g
from accel.errors import AccelError, ModelError

IMPORTERS = {
    "keras": "import_keras",
    "tensorflow": "import_tensorflow",
    "tflite": "import_tflite",
    "torchscript": "import_torchscript",
}
MAX_SECONDS = 300
MEMORY_BYTES = 8 << 30  # address space, to which ten times the file is added
ERROR_SUFFIX = ".error"


def import_isolated(kind: str, path: Path) -> ir.Model:
    """Read a file with the importer of a format, in another process.

    Raises
    ------
    AccelError
        What the importer raised; ModelError too where its process crashed or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="accel-import-") as folder:
        result = Path(folder, "graph.onnx")
        command = [sys.executable, "-m", __name__, kind, str(path.resolve()), str(result)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, timeout=MAX_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"cannot read {str(path)!r}: reading took more than {MAX_SECONDS} s; "
                "the file is damaged or far too large"
            ) from None
        failure = result.with_suffix(ERROR_SUFFIX)
        if failure.exists():
            found = json.loads(failure.read_text(encoding="utf-8"))
            raise getattr(errors, found["type"])(found["message"])
        if done.returncode != 0 or not result.exists():
            raise ModelError(
                f"cannot read {str(path)!r}: its reader ended with code {done.returncode}; "
                f"the file is damaged, or not of format {kind}{_last_line(done.stderr)}"
            )
        return g.from_bytes(result.read_bytes())


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return f" ({lines[-1]})" if lines else ""


def _main(kind: str, path: str, result: str) -> None:
    limit = MEMORY_BYTES + 10 * _size(Path(path))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    read = getattr(import_module(f"accel.importers.{kind}"), IMPORTERS[kind])
    try:
        data = g.to_bytes(read(Path(path)))
    except AccelError as err:
        found = {"type": type(err).__name__, "message": str(err)}
        Path(result).with_suffix(ERROR_SUFFIX).write_text(json.dumps(found), encoding="utf-8")
        return
    Path(result).write_bytes(data)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files if f.is_file())


if __name__ == "__main__":
    _main(*sys.argv[1:4])
