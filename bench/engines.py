"""The engines that a layer can be bound for: our kernels, MKL's product inside them, and the peers.

The peers do the nearest thing that they have, with one scale for a whole activation.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from layer import INPUT_SCALE, OUTPUT_SCALE, Array, Layer
from onnx_layers import onnxruntime_layer, openvino_layer
from our_layers import bind_ours
from torch_layers import torch_layer

Run = Callable[[], Any]
ROW_MAJOR, NO_TRANS, FIX_OFFSET = 101, 111, 173  # of CBLAS


def available() -> list[str]:
    """Engines of this machine. "mkl" is our plan over MKL's product, "mkl_gemm" that product alone,
    of one scale."""
    found = ["cpu"]
    if mkl_gemm():
        found += ["mkl", "mkl_gemm"]
    return found + [name for name in PEERS if importlib.util.find_spec(name)]


def bind(engine: str, layer: Layer, threads: int) -> tuple[Run, Callable[[], None]]:
    """What to time, and a check of its result."""
    if engine in ("cpu", "mkl"):
        return bind_ours(layer, threads, mkl_gemm() if engine == "mkl" else None)
    run = mkl_layer(layer) if engine == "mkl_gemm" else PEERS[engine](layer, threads)
    return run, lambda: check_peer(layer, np.asarray(run()))


PEERS: dict[str, Callable[[Layer, int], Run]] = {
    "onnxruntime": onnxruntime_layer,
    "openvino": openvino_layer,
    "torch": torch_layer,
}


def can_run(engine: str, layer: Layer, threads: int) -> bool:
    """Whether the engine has this layer: MKL alone does products, by its sequential layer; no
    operator of PyTorch begins with pixels."""
    if engine == "torch" and layer.has_pixels:
        return False
    return engine != "mkl_gemm" or (layer.product and threads == 1)


def check_peer(layer: Layer, got: Array) -> None:
    """Within a level or two of the exact result; exact where the output is int32."""
    exact = layer.integer_result().astype(np.float64)
    factor = INPUT_SCALE * layer.weight_scales().astype(np.float64)
    if got.dtype == np.int32:
        assert np.array_equal(got, exact)
    elif got.dtype == np.float32:
        expected = exact * factor
        assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
    else:
        expected = np.clip(np.rint(exact * factor / OUTPUT_SCALE), 0, 255)
        near = 2 if layer.has_pixels else 1  # levels of pixels may be rounded otherwise
        assert np.abs(got.reshape(expected.shape).astype(np.int64) - expected).max() <= near


@cache
def mkl_gemm() -> int | None:
    """Address of cblas_gemm_s8u8s32, if MKL is installed."""
    for path in sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*")):
        return ctypes.cast(ctypes.CDLL(str(path)).cblas_gemm_s8u8s32, ctypes.c_void_p).value
    return None


def mkl_layer(layer: Layer) -> Run:
    """MKL's product of u8 by s8, int32 out."""
    address = mkl_gemm()
    assert address is not None
    i, b, f, p = ctypes.c_int, ctypes.c_int8, ctypes.c_float, ctypes.c_void_p
    signature = ctypes.CFUNCTYPE(None, i, i, i, i, i, i, i, f, p, i, b, p, i, b, f, p, i, p)
    m, n, k = layer.size, layer.oc, layer.ic
    x = layer.activations()[0, 0]
    w = np.ascontiguousarray(layer.weights().reshape(n, k).T)
    y, zero = np.empty((m, n), np.int32), np.zeros(1, np.int32)
    data = (x.ctypes.data, k, 0, w.ctypes.data, n, 0, 0.0, y.ctypes.data, n, zero.ctypes.data)
    call = (ROW_MAJOR, NO_TRANS, NO_TRANS, FIX_OFFSET, m, n, k, 1.0, *data)
    product = signature(address)

    def run() -> Array:
        product(*call)
        return y

    keep = (x, w, zero)  # alive as long as run
    run.arrays = keep  # type: ignore[attr-defined]
    return run
