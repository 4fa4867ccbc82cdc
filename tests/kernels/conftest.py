"""Fixtures of the kernel tests."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from accel import kernels

settings.register_profile("kernels", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("kernels")


@pytest.fixture(params=kernels.isas())
def isa(request: pytest.FixtureRequest) -> str:
    """Every instruction set of this CPU."""
    return str(request.param)


@pytest.fixture(scope="session")
def mkl_gemm() -> int:
    """Address of MKL's cblas_gemm_s8u8s32."""
    found = sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*"))
    if not found:
        pytest.skip("MKL is not installed: pip install lwaccel[mkl]")
    library = ctypes.CDLL(str(found[0]))
    address = ctypes.cast(library.cblas_gemm_s8u8s32, ctypes.c_void_p).value
    assert address is not None
    return address
