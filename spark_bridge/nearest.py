"""Similarity search: the rows whose features are nearest to those of each query.

Every task keeps the best of its own rows, for all queries; the best of those are chosen by Spark.
"brute" compares with every row; "faiss" asks an index of the task's rows for candidates and
compares those exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, DataType, FloatType, StructField, StructType

from accel.errors import InputError, UnsupportedError
from spark_bridge.arrow import map_in_arrow
from spark_bridge.worker import task_threads

Vectors = npt.NDArray[np.float32]
METRICS = ("cosine", "dot", "euclidean")
INDEXES = ("brute", "faiss")
MAX_QUERY_BYTES = 64 << 20  # queries travel with every task
CANDIDATES = 4  # an index is asked for so many times k rows
MIN_INDEXED = 4096  # fewer rows are compared one by one
BLOCK_SCORES = 1 << 22  # scores held at once
ROUNDING = float(np.finfo(np.float32).eps)


def nearest(
    df: DataFrame,
    queries: Vectors,
    k: int = 10,
    metric: Literal["cosine", "dot", "euclidean"] = "cosine",
    index: Literal["brute", "faiss"] = "brute",
    *,
    id: str = "id",
    features: str = "features",
) -> DataFrame:
    """The `k` rows nearest to each query.

    Parameters
    ----------
    df : holds `id`, of any type that can be ordered, and `features`: binary (float32,
        little-endian, as `predict(task="features")` gives them) or array<float>. Rows whose
        features are null are left out.
    queries : (queries, dim) float32.
    metric : "cosine" (from -1 to 1) and "dot" rise with likeness; "euclidean" is the distance with
        a minus, so that it rises too.
    index : "faiss" needs `pip install 'lwaccel[search]'` on every executor, and may miss a few of
        the nearest.

    Returns
    -------
    DataFrame: query int (row of `queries`), rank int (from 1), id, score float. Equal scores are
    in order of `id`.

    Raises
    ------
    InputError
        A wrong column, metric, index or shape.
    UnsupportedError
        faiss is not installed here.
    """
    _check(df, queries, k, metric, index, id, features)
    wanted = np.ascontiguousarray(queries, np.float32)
    fields = [("query", "int"), ("id", df.schema[id].dataType.simpleString()), ("score", "float")]
    schema = StructType([StructField(name, DataType.fromDDL(kind)) for name, kind in fields])

    def search(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        blocks: Iterable[pa.RecordBatch] = (batch for batch in batches if batch.num_rows)
        if index == "faiss":  # an index is made of all rows of a task
            whole = list(blocks)
            blocks = [pa.concat_batches(whole)] if whole else []
        best: pa.Table | None = None
        for block in blocks:
            found = _compared(block, wanted, k, metric, index)
            best = _best(found if best is None else pa.concat_tables([best, found]), k)
        if best is not None:
            yield from best.combine_chunks().to_batches()

    rows = df.where(F.col(f"`{features}`").isNotNull()).select(
        F.col(f"`{id}`").alias("id"), F.col(f"`{features}`").alias("features")
    )
    order = Window.partitionBy("query").orderBy(F.desc("score"), "id")
    ranked = map_in_arrow(rows, search, schema).withColumn("rank", F.row_number().over(order))
    return ranked.where(F.col("rank") <= k).select("query", "rank", "id", "score")


def _check(
    df: DataFrame, queries: Vectors, k: int, metric: str, index: str, id: str, features: str
) -> None:
    for name, value, known in (("metric", metric, METRICS), ("index", index, INDEXES)):
        if value not in known:
            raise InputError(f"{name} is {value!r}; expected one of {', '.join(known)}")
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k is {k!r}; expected a whole number of at least 1")
    for column in (id, features):
        if column not in df.columns:
            raise InputError(f"no column {column!r}; columns: {', '.join(df.columns)}")
    kind = df.schema[features].dataType
    if kind != BinaryType() and not (
        isinstance(kind, ArrayType) and kind.elementType == FloatType()
    ):
        raise InputError(f"column {features!r} is {kind.simpleString()}; expected binary or "
                         "array<float>")  # fmt: skip
    if queries.ndim != 2 or 0 in queries.shape or queries.dtype.kind != "f":
        raise InputError(f"queries are {queries.dtype} {queries.shape}; expected float (queries, "
                         "dim)")  # fmt: skip
    if not np.isfinite(queries).all():
        raise InputError("queries hold NaN or infinity")
    if queries.nbytes > MAX_QUERY_BYTES:
        raise InputError(f"queries have {queries.nbytes} bytes, more than {MAX_QUERY_BYTES}; "
                         "search in parts")  # fmt: skip
    if index == "faiss":
        _faiss()


def _compared(block: pa.RecordBatch, queries: Vectors, k: int, metric: str, index: str) -> pa.Table:
    """query, id and score of the rows that may be among the k nearest to each query."""
    vectors = _vectors(block.column("features"), queries.shape[1])
    if metric == "cosine":
        vectors, queries = _unit(vectors), _unit(queries)
    if index == "faiss" and len(vectors) >= MIN_INDEXED:
        query, row = _indexed(vectors, queries, k, metric)
    else:
        query, row = _close(vectors, queries, k, metric)
    scores = _scores(vectors[row], queries[query], metric)
    columns = [pa.array(query, pa.int32()), block.column("id").take(pa.array(row)),
               pa.array(scores)]  # fmt: skip
    return pa.table(columns, names=["query", "id", "score"])


def _vectors(column: pa.Array, dim: int) -> Vectors:
    """(rows, dim) from bytes or lists."""
    import pyarrow.compute as pc  # 50 ms of a worker that does not search

    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        width, flat = 4 * dim, b"".join(column.to_pylist())
        same = pc.all(pc.equal(pc.binary_length(column), width)).as_py()
        values = np.frombuffer(flat, "<f4") if same else np.empty(0, np.float32)
    else:
        same = pc.all(pc.equal(pc.list_value_length(column), dim)).as_py()
        values = column.flatten().to_numpy(zero_copy_only=False)
    if not same:
        raise InputError(f"features of different lengths; the queries have {dim} values")
    found: Vectors = values.reshape(-1, dim).astype(np.float32, copy=False)
    return found


def _unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1; one of zeros stays."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    found: Vectors = (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    return found


def _close(
    vectors: Vectors, queries: Vectors, k: int, metric: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs (query, row): the k nearest, and all that rounding might have put behind them."""
    sizes = np.einsum("ij,ij->i", vectors, vectors)
    step = max(1, BLOCK_SCORES // len(vectors))
    query, row = [], []
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        rough = some @ vectors.T
        if metric == "euclidean":
            rough = 2 * rough - sizes  # falls with the distance, for one query
        scale = np.sqrt(sizes.max()) * np.linalg.norm(some, axis=1) + sizes.max()
        slack = (ROUNDING * vectors.shape[1] * scale)[:, np.newaxis]
        most = min(k, len(vectors))
        least = -np.partition(-rough, most - 1, axis=1)[:, most - 1 : most]
        found = np.nonzero(rough >= least - slack)
        query.append(found[0] + start)
        row.append(found[1])
    return np.concatenate(query), np.concatenate(row)


def _indexed(
    vectors: Vectors, queries: Vectors, k: int, metric: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs (query, row) from an inverted file of the vectors."""
    faiss = _faiss()
    faiss.omp_set_num_threads(task_threads(None))
    kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
    lists = int(2 * math.sqrt(len(vectors)))
    index = faiss.index_factory(vectors.shape[1], f"IVF{lists},Flat", kind)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = max(8, lists // 8)
    row = index.search(queries, min(CANDIDATES * k, len(vectors)))[1]
    query = np.repeat(np.arange(len(queries)), row.shape[1])
    there = row.ravel() >= 0
    return query[there], row.ravel()[there]


def _scores(vectors: Vectors, queries: Vectors, metric: str) -> Vectors:
    """Exact score of each pair, the same however the rows were shared out."""
    pairs = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "euclidean":
        found = -np.sqrt(np.square(pairs[0] - pairs[1]).sum(axis=1))
    else:
        found = (pairs[0] * pairs[1]).sum(axis=1)
    scores: Vectors = found.astype(np.float32)
    return scores


def _best(found: pa.Table, k: int) -> pa.Table:
    """The k best of each query, by falling score, then by id."""
    import pyarrow.compute as pc

    keys = [("query", "ascending"), ("score", "descending"), ("id", "ascending")]
    ordered = found.take(pc.sort_indices(found, sort_keys=keys))
    query = ordered.column("query").to_numpy()
    place = np.arange(len(query)) - np.searchsorted(query, query)
    return ordered.filter(pa.array(place < k))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as err:
        raise UnsupportedError(
            "index 'faiss' needs faiss: pip install 'lwaccel[search]'; or take index='brute'"
        ) from err
    return faiss
