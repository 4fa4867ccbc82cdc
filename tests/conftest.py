"""Fixtures and rules that every test shares.

Two rules live here. Seeds come from one `rng` fixture. And a skipped test hides a fault, so
where the folder of trained models is present (`../shared`, beside the repository) a skip is
reported as a failure; only a test of hardware that this machine lacks may skip there, by the
marker ``@pytest.mark.hardware`` or by a reason that starts with ``hardware:``.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
HAS_SHARED = (SHARED / "data").is_dir()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "hardware: needs hardware that this machine may lack")


@pytest.fixture
def rng() -> np.random.Generator:
    """One seed for every test that needs random numbers."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of trained models and labelled images beside the repository."""
    if not HAS_SHARED:
        pytest.skip(f"no trained models at {SHARED.name}/data beside the repository")
    return SHARED


def skip_reason(longrepr: Any) -> str:
    """Text of a skip report: pytest gives (path, line, reason) or something printable."""
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)


def is_hidden_skip(skipped: bool, reason: str, marked_hardware: bool) -> bool:
    """True for a skip that must not pass where the trained models are present."""
    bare = reason.removeprefix("Skipped: ")
    return skipped and HAS_SHARED and not marked_hardware and not bare.startswith("hardware:")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    reason = skip_reason(report.longrepr)
    marked = item.get_closest_marker("hardware") is not None
    if not hasattr(report, "wasxfail") and is_hidden_skip(report.skipped, reason, marked):
        report.outcome = "failed"
        report.longrepr = f"skipped where every test must run: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    reason = skip_reason(report.longrepr)
    if is_hidden_skip(report.skipped, reason, marked_hardware=False):
        report.outcome = "failed"
        report.longrepr = f"skipped where every test must run: {reason}"
    return report


@pytest.fixture(scope="module")
def small_layers_pay() -> Generator[None, None, None]:
    """Layers of few multiplications get transformed weights, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accel.lower.winograd.LEAST_MACS", 0)
        yield
