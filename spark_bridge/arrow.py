"""`DataFrame.mapInArrow` for any column names, and where pandas is not installed.

Nothing in the path of mapInArrow uses pandas, neither on the driver nor on the workers, but the
classic DataFrame of pyspark 4.3 refuses to build the function without it, and takes a dot in a
column's name for a field of a struct. Here the same plan is built without either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

MapFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def map_in_arrow(df: DataFrame, function: MapFunction, schema: StructType) -> DataFrame:
    """Map the record batches of each partition; as DataFrame.mapInArrow."""
    return _classic(df, function, schema) if hasattr(df, "_jdf") else _connect(df, function, schema)


def _classic(df: Any, function: MapFunction, schema: StructType) -> DataFrame:
    from pyspark.sql.classic.dataframe import DataFrame as ClassicDataFrame
    from pyspark.sql.udf import UserDefinedFunction
    from pyspark.util import PythonEvalType

    kind = PythonEvalType.SQL_MAP_ARROW_ITER_UDF
    udf = UserDefinedFunction(function, returnType=schema, evalType=kind)
    applied = udf(*(df[_quoted(name)] for name in df.columns))
    return ClassicDataFrame(df._jdf.mapInArrow(applied._jc, False, None), df.sparkSession)


def _connect(df: DataFrame, function: MapFunction, schema: StructType) -> DataFrame:
    """Columns travel under plain names, since a client names them as text."""
    names = df.columns

    def renamed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return function(batch.rename_columns(names) for batch in batches)

    plain = df.toDF(*(f"c{i}" for i in range(len(names))))
    return plain.mapInArrow(renamed, schema)


def _quoted(name: str) -> str:
    """A name as Spark reads it literally, dots and all."""
    return f"`{name.replace('`', '``')}`"
