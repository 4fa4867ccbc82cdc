"""Options of the benchmarks, and the cases of those that measure one layer."""

from __future__ import annotations

import os

# One thread each unless asked for: read by the engines when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import pytest

from accel import kernels


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lwaccel benchmarks")
    group.addoption("--backends", help="comma-separated names of devices; default: all")
    group.addoption("--threads", help="comma-separated numbers of threads; default: 1")
    group.addoption("--isa", help="instruction set of our kernels; default: the best")


@pytest.fixture(scope="session", autouse=True)
def isa(request: pytest.FixtureRequest) -> str:
    """Instruction set that our kernels use in this session."""
    name = request.config.getoption("--isa") or kernels.isa()
    kernels.use_isa(name)
    return str(name)
