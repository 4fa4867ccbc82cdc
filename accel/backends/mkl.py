"""The `mkl` device: the plan of `cpu`, its int8 products computed by oneMKL's
``cblas_gemm_s8u8s32``, loaded from the mkl wheel at run time. Values equal those of `cpu` bit
for bit."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from functools import cache, partial
from importlib import metadata
from pathlib import Path

from accel import kernels
from accel.backends.cpu import PlanProgram
from accel.device import Device
from accel.errors import DeviceError

_SEQUENTIAL = 1  # MKL_THREADING_SEQUENTIAL: our pool is the only one
_INSTALL = "run: pip install 'lwaccel[mkl]'"


def availability() -> tuple[bool, str]:
    """Whether libmkl_rt is installed."""
    path = _library_path()
    if path is None:
        return False, f"libmkl_rt not found; {_INSTALL}"
    try:
        return True, f"oneMKL {metadata.version('mkl')}"
    except metadata.PackageNotFoundError:
        return True, f"oneMKL from {Path(path).name}"


def open_device(index: int) -> Device:
    """Open the device; refuses an MKL whose products are not exact."""
    return Device("mkl", partial(PlanProgram, gemm=_gemm_address()))


def _library_path() -> str | None:
    try:
        for file in metadata.files("mkl") or []:
            if file.name.startswith("libmkl_rt.so"):
                path = Path(str(file.locate())).resolve()
                if path.exists():
                    return str(path)
    except metadata.PackageNotFoundError:
        pass
    return ctypes.util.find_library("mkl_rt")


@cache
def _gemm_address() -> int:
    path = _library_path()
    if path is None:
        raise DeviceError(f"device 'mkl' is not available: libmkl_rt not found; {_INSTALL}")
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_LOCAL | os.RTLD_NOW)
        library.MKL_Set_Threading_Layer(_SEQUENTIAL)
        function = library.cblas_gemm_s8u8s32
    except (OSError, AttributeError) as err:
        raise DeviceError(f"device 'mkl' cannot be opened: {err}; {_INSTALL}") from None
    _KEEP.append(library)
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    if not kernels.check_gemm(address):
        raise DeviceError(
            "device 'mkl': this MKL saturates its int8 products on this CPU, so its results "
            "would differ; use device 'cpu'"
        )
    return address


_KEEP: list[ctypes.CDLL] = []  # the address is valid as long as the library is loaded
