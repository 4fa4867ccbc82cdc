"""nearest: the rows a full comparison gives, however they are shared out over tasks."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from accel.errors import InputError, UnsupportedError
from spark_bridge import nearest

ROWS, DIM, K = 600, 24, 7


@pytest.fixture
def vectors(rng: np.random.Generator) -> np.ndarray:
    """Some twice, and one of zeros."""
    found = rng.normal(size=(ROWS, DIM)).astype(np.float32)
    found[300:320], found[599] = found[5], 0
    return found


@pytest.fixture
def queries(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(size=(5, DIM)).astype(np.float32)
    return np.concatenate([vectors[[5, 17]], noise])


@pytest.fixture
def df(spark: SparkSession, vectors: np.ndarray) -> DataFrame:
    rows: list[tuple[str, bytes | None, list[float]]] = [
        (f"{i:04d}", v.tobytes(), v.tolist()) for i, v in enumerate(vectors)
    ]
    rows.append(("null", None, []))
    schema = "id string, features binary, list array<float>"
    return spark.createDataFrame(rows, schema).repartition(3)


def scores(vectors: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    v, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "euclidean":
        return -np.linalg.norm(q[:, None] - v[None], axis=2)
    if metric == "cosine":
        v = v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-30)
        q = q / np.linalg.norm(q, axis=1, keepdims=True)
    return q @ v.T


def ids(found: DataFrame) -> dict[int, list[str]]:
    rows = sorted(found.collect(), key=lambda row: (row.query, row["rank"]))
    named: dict[int, list[str]] = {}
    for row in rows:
        named.setdefault(row.query, []).append(row.id)
        assert row["rank"] == len(named[row.query])
    return named


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_nearest_equals_a_full_comparison_ties_by_id(
    df: DataFrame, vectors: np.ndarray, queries: np.ndarray, metric: Any
) -> None:
    exact = scores(vectors, queries, metric).round(9)
    order = [sorted(range(ROWS), key=lambda i, row=row: (-row[i], i))[:K] for row in exact]  # type: ignore[misc]
    expected = {q: [f"{i:04d}" for i in row] for q, row in enumerate(order)}
    assert ids(nearest(df, queries, K, metric)) == expected
    lists = df.drop("features").where("id <> 'null'")
    assert ids(nearest(lists, queries, K, metric, features="list")) == expected
    if metric != "dot":  # the copies of a row come before all others, in order of their id
        assert expected[0][:2] == ["0005", "0300"]


def test_nearest_scores_do_not_depend_on_partitions(df: DataFrame, queries: np.ndarray) -> None:
    one = sorted(nearest(df.coalesce(1), queries, K).collect())
    assert sorted(nearest(df.repartition(5), queries, K).collect()) == one
    few = nearest(df.limit(3), queries, K)
    assert {row["rank"] for row in few.collect()} <= {1, 2, 3}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_by_faiss_finds_nearly_all(
    spark: SparkSession, rng: np.random.Generator, metric: Any
) -> None:
    centres = rng.normal(size=(60, DIM))
    points = centres[rng.integers(0, 60, 9000)] + rng.normal(0, 0.3, (9000, DIM))
    rows = [(i, v.tobytes()) for i, v in enumerate(points.astype(np.float32))]
    table = spark.createDataFrame(rows, "id long, features binary").coalesce(1)
    queries = points[:20].astype(np.float32)
    exact = ids(nearest(table, queries, K, metric))
    found = ids(nearest(table, queries, K, metric, "faiss"))
    hits = sum(len(set(found[q]) & set(exact[q])) for q in exact)
    assert hits >= 0.95 * K * len(queries)
    assert all(found[q][0] == q for q in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "manhattan"}, "metric is 'manhattan'"),
        ({"index": "tree"}, "index is 'tree'; expected one of brute, faiss"),
        ({"k": 0}, "k is 0"),
        ({"id": "name"}, "no column 'name'"),
        ({"features": "id"}, "column 'id' is string; expected binary or array<float>"),
        ({"queries": np.zeros(3, np.float32)}, r"queries are float32 \(3,\)"),
        ({"queries": np.full((1, DIM), np.nan, np.float32)}, "NaN or infinity"),
    ],
)
def test_nearest_wrong_request_fails_before_the_job(
    df: DataFrame, queries: np.ndarray, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        nearest(df, **({"queries": queries} | arguments))


def test_nearest_features_of_another_length_fail_with_the_reason(
    df: DataFrame, queries: np.ndarray
) -> None:
    with pytest.raises(Exception, match="features of different lengths; the queries have 3"):
        nearest(df, queries[:, :3]).collect()


def test_nearest_without_faiss_says_what_to_install(
    df: DataFrame, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'lwaccel\[search\]'"):
        nearest(df, queries, index="faiss")
