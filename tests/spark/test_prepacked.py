"""Prepacked programs: one worker compiles, the others map what it saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import accel
from spark_bridge.prepacked import mapped


@pytest.fixture
def compiled(cnn: accel.Model) -> accel.Program:
    return accel.device("cpu").compile(cnn, batch_size=8)


def test_mapped_compiles_once_and_gives_the_same_bits(
    compiled: accel.Program, tmp_path: Path, rng: np.random.Generator
) -> None:
    made: list[int] = []

    def make() -> accel.Program:
        made.append(1)
        return compiled

    programs = [mapped("network", make, threads, tmp_path) for threads in (1, 1, 2)]
    x = rng.integers(0, 256, (8, 16, 16, 3), np.uint8)
    expected = np.asarray(compiled.run(x))
    assert len(made) == 1 and len(list(tmp_path.glob("*.program"))) == 1
    assert all(np.array_equal(np.asarray(p.run(x)), expected) for p in programs)
    mapped("another", make, 1, tmp_path)
    assert len(made) == 2


def test_mapped_without_room_on_the_disk_stays_in_memory(
    compiled: accel.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiled, "save", full)
    assert mapped("network", lambda: compiled, 1, tmp_path) is compiled
