"""The direction of imports: spark_bridge -> accel -> kernels, never back; engines stay home."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# who may import a package that not everybody has, or that belongs to one part
HOMES = {
    "openvino": ("accel/backends/openvino.py", "accel/importers/openvino/"),
    "torch": ("accel/importers/torchscript.py",),
    "h5py": ("accel/importers/keras/",),
    "mkl": ("accel/backends/mkl.py",),
    "onnxruntime": ("accel/backends/onnxruntime.py", "accel/host.py"),
    "cv2": ("accel/images.py", "accel/detection/draw.py", "spark_bridge/"),
    "PIL": ("accel/images.py",),
    "sklearn": ("accel/demo.py",),
    "typer": ("accel/cli/",),
    "rich": ("accel/cli/",),
    "simpy": ("accel/fpga/",),
    "pyspark": ("spark_bridge/",),
    "pyarrow": ("spark_bridge/",),
    "accel._kernels": ("accel/kernels.py",),
}
OPTIONAL = ("openvino", "mkl", "cv2", "PIL", "sklearn", "pyspark", "pyarrow", "torch", "h5py")


def sources() -> list[Path]:
    found = [*(ROOT / "accel").rglob("*.py"), *(ROOT / "spark_bridge").rglob("*.py")]
    return sorted(found)


def imported(tree: ast.AST) -> Iterator[str]:
    """Every imported module, with ``from a import b`` given as both ``a`` and ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def imports_of(path: Path) -> list[str]:
    return list(imported(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_one_way(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    for module in imports_of(path):
        if place.startswith("accel/"):
            assert not within(module, "spark_bridge"), f"{place} imports {module}"
        if not place.startswith("accel/cli/"):
            assert not within(module, "accel.cli"), f"{place} imports {module}"
        for package, homes in HOMES.items():
            if within(module, package):
                assert place.startswith(homes), f"{package} belongs to {homes}, not to {place}"


@pytest.mark.parametrize("folder", ["passes", "importers"])
def test_graph_work_knows_no_device(folder: str) -> None:
    paths = sorted((ROOT / "accel" / folder).rglob("*.py"))
    assert paths
    for path in paths:
        for module in imports_of(path):
            for above in ("accel.backends", "accel.device", "accel.program", "accel.kernels"):
                assert not within(module, above), f"{path.name} imports {module}"


def test_kernels_folder_is_no_python_package() -> None:
    assert not list((ROOT / "kernels").rglob("__init__.py"))


def test_every_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in sources()}
    assert set(project["tool"]["setuptools"]["packages"]) == found


def test_import_accel_loads_no_optional_package() -> None:
    code = (
        "import sys, accel, accel.images, accel.samples, accel.demo; accel.devices(); "
        f"print([n for n in {OPTIONAL} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parser_of_this_file_sees_each_form_of_import() -> None:
    tree = ast.parse("import a.b\nfrom c import d\ndef f():\n    from e.f import g\n")
    assert list(imported(tree)) == ["a.b", "c", "c.d", "e.f", "e.f.g"]
