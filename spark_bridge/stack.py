"""Rows side by side in the arrays that a program takes.

A row is copied as soon as it is there, while its pixels are in the cache of the core: rows that are
stacked when the last of a batch is there have left it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spark_bridge.guard import Arrays
from spark_bridge.rows import Row


class Stack:
    """Rows in the order they came; rows of one shape lie in the same arrays.

    Parameters
    ----------
    rows, max_bytes : room that is made at once; more rows take new arrays.
    """

    def __init__(self, rows: int, max_bytes: int) -> None:
        self._rows = rows
        self._max_bytes = max_bytes
        self._parts: list[Arrays] = []
        self._used: list[int] = []  # rows of each part

    def add(self, row: Row) -> None:
        """Copy one row: arrays by input name."""
        if not self._fits(row):
            self._parts.append(self._room(row))
            self._used.append(0)
        for name, array in row.items():
            self._parts[-1][name][self._used[-1]] = array
        self._used[-1] += 1

    def parts(self) -> list[Arrays]:
        """Arrays (rows, ...) by input name, one dict for each stretch of rows of one shape."""
        return [
            {name: array[:used] for name, array in part.items()}
            for part, used in zip(self._parts, self._used, strict=True)
        ]

    def _fits(self, row: Row) -> bool:
        """Whether the last part has room, for rows of this shape."""
        return bool(self._parts) and all(
            self._used[-1] < len(held)
            and held.shape[1:] == row[name].shape
            and held.dtype == row[name].dtype
            for name, held in self._parts[-1].items()
        )

    def _room(self, row: Row) -> Arrays:
        row_bytes = sum(array.nbytes for array in row.values())
        rows = max(1, min(self._rows, self._max_bytes // max(1, row_bytes)))
        return {n: np.empty((rows, *array.shape), array.dtype) for n, array in row.items()}


def stacked(rows: Sequence[Row], max_bytes: int) -> list[Arrays]:
    """Rows that are there already, as `Stack.parts`."""
    stack = Stack(len(rows), max_bytes)
    for row in rows:
        stack.add(row)
    return stack.parts()
