"""Batches with their answers, on their way out.

To make the columns of results, to send them and to read them in Java costs about the same for one
row as for a few hundred: so small batches leave together.
"""

from __future__ import annotations

import time

import pyarrow as pa

from spark_bridge.meta import Meta
from spark_bridge.results import Answer, to_arrow
from spark_bridge.rows import RowError
from spark_bridge.spec import Spec

ROWS = 256
BYTES = 1 << 20
SECONDS = 0.25  # what is answered waits no longer for a batch that is to be computed


class Answered:
    """What is answered and has not left yet."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._batches: list[pa.RecordBatch] = []
        self._answers: list[Answer] = []
        self._metas: list[Meta] = []
        self._bytes = 0
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, batch: pa.RecordBatch, answers: list[Answer], meta: Meta) -> None:
        """Keep a batch of the input with an answer for each of its rows."""
        if not self._batches:
            self._since = time.perf_counter()
        self._batches.append(batch)
        self._answers += answers
        self._metas.append(meta)
        self._bytes += batch.nbytes + sum(map(_answer_bytes, answers))

    @property
    def is_due(self) -> bool:
        """Whether it is time to leave: enough rows or bytes, or one more batch would take long."""
        waited_s = time.perf_counter() - self._since + self._metas[-1].seconds
        return len(self) >= ROWS or self._bytes >= BYTES or waited_s >= SECONDS

    def take(self) -> pa.RecordBatch:
        """All of it as one batch with the column of results; nothing is kept."""
        batches, answers, metas = self._batches, self._answers, self._metas
        batch = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
        self._batches, self._answers, self._metas, self._bytes = [], [], [], 0
        return batch.append_column(self._spec.output, to_arrow(answers, self._spec, metas))


def _answer_bytes(answer: Answer) -> int:
    if isinstance(answer, RowError):
        return len(answer.message)
    return sum(array.nbytes for array in answer.values() if hasattr(array, "nbytes"))
