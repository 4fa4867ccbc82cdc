"""`DataFrame.mapInArrow` where pandas is not installed.

Nothing in the path of mapInArrow uses pandas, neither on the driver nor on the workers, but the
classic DataFrame of pyspark 4.3 refuses to build the function without it. Here the same plan is
then built without that check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkImportError
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

MapFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def map_in_arrow(df: DataFrame, function: MapFunction, schema: StructType) -> DataFrame:
    """Map the record batches of each partition; as DataFrame.mapInArrow, pandas or not."""
    try:
        return df.mapInArrow(function, schema)
    except PySparkImportError:
        return _without_pandas(df, function, schema)


def _without_pandas(df: Any, function: MapFunction, schema: StructType) -> DataFrame:
    from pyspark.sql.classic.dataframe import DataFrame as ClassicDataFrame
    from pyspark.sql.udf import UserDefinedFunction
    from pyspark.util import PythonEvalType

    kind = PythonEvalType.SQL_MAP_ARROW_ITER_UDF
    udf = UserDefinedFunction(function, returnType=schema, evalType=kind)
    applied = udf(*(df[_quoted(name)] for name in df.columns))
    return ClassicDataFrame(df._jdf.mapInArrow(applied._jc, False, None), df.sparkSession)


def _quoted(name: str) -> str:
    """A name as Spark reads it literally, dots and all."""
    return f"`{name.replace('`', '``')}`"
