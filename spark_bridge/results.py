"""The struct a row gets: its Arrow type, its Spark spelling, and how outputs fill it.

Every task has its own fields, and all end with `error`: null for a good row, else the reason,
with the other fields null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from spark_bridge.rows import Row, RowError
from spark_bridge.spec import Spec

ERROR = pa.struct([("code", pa.string()), ("stage", pa.string()), ("message", pa.string())])
CLASS = [("label", pa.int32()), ("name", pa.string()), ("score", pa.float32())]
TENSOR = pa.struct([("name", pa.string()), ("shape", pa.list_(pa.int32())), ("data", pa.binary())])
FIELDS = {
    "classify": [*CLASS, ("topk", pa.list_(pa.struct(CLASS)))],
    "features": [("features", pa.binary()), ("dim", pa.int32())],
    "array": [("array", pa.list_(pa.float32()))],
    "raw": [("tensors", pa.list_(TENSOR))],
}
Result = dict[str, Any]


def result_type(task: str) -> pa.StructType:
    """Arrow type of the results of a task.

    classify: label int, name string, score float (the model's own output at `label`: a
    probability only where the model ends in softmax), topk array<struct<label, name, score>>.
    features: the first output, flat, as little-endian float32 bytes, and its length `dim`.
    array: the same as array<float>, for pyspark.ml; it moves 14 times slower than bytes.
    raw: every output as struct<name, shape, data>, data little-endian float32 in C order.
    """
    return pa.struct([*FIELDS[task], ("error", ERROR)])


def ddl(kind: pa.DataType) -> str:
    """Spark's spelling of an Arrow type: struct<label:int,...>."""
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{f.name}:{ddl(f.type)}' for f in kind)}>"
    if pa.types.is_list(kind):
        return f"array<{ddl(kind.value_type)}>"
    return {"int32": "int"}.get(str(kind), str(kind))


def to_result(outputs: Row, spec: Spec) -> Result:
    """Fields of one good row from the arrays of one row, by output name."""
    first = next(iter(outputs.values()))
    if spec.task == "classify":
        return _classes(first.ravel(), spec)
    if spec.task == "features":
        return {"features": _float_bytes(first), "dim": first.size}
    if spec.task == "array":
        return {"array": first.astype(np.float32).ravel()}
    return {"tensors": [_tensor(name, array) for name, array in outputs.items()]}


def to_error(error: RowError) -> Result:
    """Fields of one bad row."""
    return {"error": {"code": error.code, "stage": error.stage, "message": error.message}}


def to_arrow(results: Sequence[Result], task: str) -> pa.StructArray:
    """Results in Arrow form; a field a result lacks is null."""
    return pa.array(results, result_type(task))


def _classes(scores: np.ndarray[Any, Any], spec: Spec) -> Result:
    """The k highest scores; equal ones in order of their label."""
    order = np.argsort(-scores, kind="stable")[: spec.top_k]
    ranked = [_class(int(label), scores, spec.labels) for label in order]
    return {**ranked[0], "topk": ranked}


def _class(label: int, scores: np.ndarray[Any, Any], labels: Sequence[str] | None) -> Result:
    name = None if labels is None else labels[label]
    return {"label": label, "name": name, "score": float(scores[label])}


def _tensor(name: str, array: np.ndarray[Any, Any]) -> Result:
    return {"name": name, "shape": list(array.shape), "data": _float_bytes(array)}


def _float_bytes(array: np.ndarray[Any, Any]) -> bytes:
    return array.astype("<f4").tobytes()
