"""The one door to the C kernels.

What it is: the names of the compiled module `accel._kernels`, and an explanation when that module
was not built, or was built from older sources. What it is not: arithmetic; that is in kernels/src,
specified in kernels/include/lw.h.
"""

from __future__ import annotations

try:
    from accel._kernels import (
        Chain,
        Columns,
        Conv,
        Dense,
        Lanes,
        Linear,
        MatMul,
        MaxPool,
        Nearest,
        Operator,
        PackedWeights,
        Pixels,
        Pool,
        Pooling,
        QTensor,
        Quantize,
        QuantizePlanes,
        ToNCHW,
        ToNHWC,
        check_gemm,
        dequantize_windows,
        isa,
        isas,
        map_weights,
        pack_weights,
        qconv2d,
        qgemm,
        qmatmul,
        quantize_windows,
        run_copies,
        run_dots,
        run_reads,
        table,
        use_isa,
    )
except ImportError as error:
    if error.name != "accel._kernels":
        raise
    missing = isinstance(error, ModuleNotFoundError)
    raise ImportError(
        "accel._kernels, the compiled part of lwaccel, was "
        f"{'not built' if missing else f'built from older sources ({error})'}; "
        "in the source tree run: pip install -e ."
    ) from error

__all__ = [
    "Chain",
    "Columns",
    "Conv",
    "Dense",
    "Lanes",
    "Linear",
    "MatMul",
    "MaxPool",
    "Nearest",
    "Operator",
    "PackedWeights",
    "Pixels",
    "Pool",
    "Pooling",
    "QTensor",
    "Quantize",
    "QuantizePlanes",
    "ToNCHW",
    "ToNHWC",
    "check_gemm",
    "dequantize_windows",
    "isa",
    "isas",
    "map_weights",
    "pack_weights",
    "qconv2d",
    "qgemm",
    "qmatmul",
    "quantize_windows",
    "run_copies",
    "run_dots",
    "run_reads",
    "table",
    "use_isa",
]
