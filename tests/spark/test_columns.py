"""Columns: what pyarrow.array would give, and not more than a column can hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import InputError
from spark_bridge import columns


@settings(deadline=None)  # the array of arrow may import pandas
@given(st.lists(st.none() | st.binary(max_size=9), max_size=20))
def test_binary_equals_the_array_of_arrow(values: list[bytes | None]) -> None:
    found = columns.binary(values)
    found.validate(full=True)
    assert found.equals(pa.array(values, pa.binary()))


@settings(deadline=None)  # the array of arrow may import pandas
@given(st.lists(st.none() | st.text(max_size=9), max_size=20))
def test_text_equals_the_array_of_arrow(values: list[str | None]) -> None:
    found = columns.text(values)
    found.validate(full=True)
    assert found.equals(pa.array(values, pa.string()))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_numbers_share_the_memory_of_the_array(dtype: type) -> None:
    values = np.arange(5, dtype=dtype)
    found = columns.numbers(values)
    values[0] = 7
    assert found.to_pylist() == [7, 1, 2, 3, 4]


def test_offsets_of_nothing_is_one_zero() -> None:
    assert columns.offsets([]).to_pylist() == [0]


def test_binary_beyond_a_column_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_BYTES", 10)
    with pytest.raises(InputError, match=r"11 bytes.*batchSize"):
        columns.binary([b"123456", b"12345"])


def test_read_rows_keep_the_largest_files_within_a_column() -> None:
    assert columns.read_rows(1000) == 32
    assert columns.read_rows(64 << 20) == 31
    assert columns.read_rows(1 << 40) == 1
