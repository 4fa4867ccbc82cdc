"""One Spark session for the examples that can share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from pyspark.sql import SparkSession

from spark_bridge import local_session

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = local_session("local[2]", app="examples")
    yield session
    session.stop()


@pytest.fixture
def example(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], ModuleType]:
    """Imports an example, whose session is the shared one and is not stopped."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(SparkSession, "stop", lambda session: None)
    monkeypatch.chdir(tmp_path)
    return import_module
