"""How each row was computed: on which device, in which try, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark import TaskContext

from spark_bridge.columns import numbers, text

TIMES = ("queue_us", "decode_us", "infer_us")
META = pa.struct([
    ("device", pa.string()), ("batch", pa.int32()), ("attempt", pa.int32()),
    *((name, pa.float32()) for name in TIMES),
])  # fmt: skip


@dataclass
class Meta:
    """How one batch was computed.

    Attributes
    ----------
    devices : the device that computed each row; None for a row that was not computed.
    queue_s, decode_s, infer_s : time the batch was waited for, decoded, and computed.
    """

    devices: Sequence[str | None] = ()
    queue_s: float = 0.0
    decode_s: float = 0.0
    infer_s: float = 0.0

    @property
    def seconds(self) -> float:
        """From the wait for its first row to its last answer."""
        return self.queue_s + self.decode_s + self.infer_s


def meta_column(metas: Sequence[Meta]) -> pa.StructArray:
    """`META` for each row of some batches; every row has an equal share of its batch's times."""
    rows = np.array([len(meta.devices) for meta in metas], np.int32)
    context = TaskContext.get()
    attempt = context.attemptNumber() if context is not None else 0
    times = np.array([(m.queue_s, m.decode_s, m.infer_s) for m in metas]).reshape(-1, 3)
    shares = (times * 1e6 / np.maximum(1, rows)[:, np.newaxis]).astype(np.float32)
    counts = [np.repeat(rows, rows), np.full(rows.sum(), attempt, np.int32)]
    devices = text(device for meta in metas for device in meta.devices)
    columns = [*counts, *(np.repeat(share, rows) for share in shares.T)]
    return pa.StructArray.from_arrays([devices, *map(numbers, columns)], fields=list(META))
