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


def meta_column(meta: Meta) -> pa.StructArray:
    """`META` for each row of a batch; every row carries an equal share of the batch's times."""
    rows = len(meta.devices)
    context = TaskContext.get()
    attempt = context.attemptNumber() if context is not None else 0
    shares = [
        numbers(np.full(rows, seconds * 1e6 / max(1, rows), np.float32))
        for seconds in (meta.queue_s, meta.decode_s, meta.infer_s)
    ]
    counts = [numbers(np.full(rows, value, np.int32)) for value in (rows, attempt)]
    devices = text(meta.devices)
    return pa.StructArray.from_arrays([devices, *counts, *shares], fields=list(META))
