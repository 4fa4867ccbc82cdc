"""Weights as Winograd's F(2, 3) along y takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.passes.round_weights import round_weights

Array = np.ndarray[Any, Any]

ROWS = 64  # output channels at once: floats of all of them would take five times the memory


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
    levels = np.empty((4, *qw.shape[:2], qw.shape[3]), np.int8)
    scales = np.stack([scale] * 4)
    levels[0], levels[3] = qw[:, 0], -qw[:, 2]
    for at in range(0, len(qw), ROWS):
        rows = slice(at, at + ROWS)
        first, middle, last = qw[rows].transpose(1, 0, 3, 2).astype(np.float32)  # (OC, IC, 3)
        for i, both in ((1, first + middle + last), (2, first - middle + last)):
            q, unit = round_weights(both / 2, None)
            levels[i, rows] = q.transpose(0, 2, 1)
            scales[i, rows] *= unit.reshape(-1)
    return levels, scales
