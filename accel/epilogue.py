"""What follows a product while its block is in the nearest cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Epilogue:
    """``y = activation(product + bias + residual)``.

    Attributes
    ----------
    bias : float32 (OC,), from an addition behind the node, or None.
    residual : name of a value of the output's shape, or None.
    activation : ``none``, ``relu``, ``clip``, ``leaky``, ``hardswish``, ``silu`` or ``gelu``.
    alpha : slope of ``leaky``. lo, hi : bounds of ``clip``.
    """

    bias: Array | None = None
    residual: str | None = None
    activation: str = "none"
    alpha: float = 0.0
    lo: float = 0.0
    hi: float = 0.0
