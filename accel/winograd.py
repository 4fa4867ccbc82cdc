"""Weights as Winograd's F(2, 3) along y takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.passes.round_weights import round_weights

Array = np.ndarray[Any, Any]


def transform_weights(qw: Array, scale: Array) -> tuple[Array, Array]:
    """Of kernel rows g: g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2 and -g[2].

    The first and the last are exact. The others are rounded as weights are, so that errors cancel.

    Parameters
    ----------
    qw : (OC, 3, 3, IC) int8.
    scale : (OC,) float32.

    Returns
    -------
    (4, OC, 3, IC) int8 and (4, OC) float32.
    """
    first, middle, last = qw.transpose(1, 0, 3, 2).astype(np.float32)  # each (OC, IC, 3)
    both = first + last
    levels = [first, -last]
    scales = [scale, scale]
    for i, sign in enumerate((1, -1)):
        q, unit = round_weights((both + sign * middle) / 2, None)
        levels.insert(1 + i, q)
        scales.insert(1 + i, unit.reshape(-1) * scale)
    transformed = np.stack([x.astype(np.int8).transpose(0, 2, 1) for x in levels])
    return np.ascontiguousarray(transformed), np.stack(scales).astype(np.float32)
