"""The door to the kernels says what to do when the compiled module is missing or old."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest

from accel import kernels


def _open(monkeypatch: pytest.MonkeyPatch, compiled: ModuleType | None) -> None:
    """Import the door over another compiled module; None: over none."""
    monkeypatch.setitem(sys.modules, "accel._kernels", compiled)
    monkeypatch.delitem(sys.modules, "accel.kernels")
    monkeypatch.setattr(sys.modules["accel"], "kernels", kernels)  # restored afterwards
    importlib.import_module("accel.kernels")


def test_missing_module_was_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImportError, match=r"was not built; .* pip install -e \."):
        _open(monkeypatch, None)


def test_module_without_a_name_was_built_from_older_sources(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ImportError, match=r"from older sources .*'Chain'.*; .* pip install -e \."):
        _open(monkeypatch, ModuleType("accel._kernels"))
