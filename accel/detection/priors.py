"""Priors: the boxes from which an SSD detector measures, a few around the centre of each cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel.detection.boxes import Array


@dataclass(frozen=True)
class PriorGrid:
    """Priors of a network that leaves them to its reader.

    Attributes
    ----------
    strides : pixels of the network's input between cells, for each grid
    sizes : for each grid, (width, height) in pixels of the priors in each cell
    """

    strides: tuple[int, ...]
    sizes: tuple[tuple[tuple[float, float], ...], ...]

    def count(self, size: tuple[int, int]) -> int:
        """Number of priors for an input of (height, width)."""
        return sum(
            -(-size[0] // stride) * -(-size[1] // stride) * len(shapes)
            for stride, shapes in zip(self.strides, self.sizes, strict=True)
        )

    def boxes(self, size: tuple[int, int]) -> tuple[Array, Array]:
        """Centres and sizes, (n, 2) float32 each, relative to an input of (height, width).

        Grid by grid, row by row, column by column, in the order of `sizes`; inside 0..1.
        """
        whole = np.array([size[1], size[0]], np.float64)
        centres, sizes = [], []
        for stride, shapes in zip(self.strides, self.sizes, strict=True):
            rows, columns = (-(-side // stride) for side in size)
            cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
            middle = (cells.reshape(-1, 1, 2) + 0.5) * stride / whole
            centres.append(np.repeat(middle, len(shapes), axis=1).reshape(-1, 2))
            sizes.append(np.tile(np.array(shapes, np.float64) / whole, (rows * columns, 1)))
        parts = (np.clip(np.concatenate(part), 0, 1) for part in (centres, sizes))
        centre, extent = (part.astype(np.float32) for part in parts)
        return centre, extent
