"""Spool: frames keep their numbers and bytes, over crashes and whatever their size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accel.errors import InputError
from spark_bridge import spool as spools
from spark_bridge.spool import Spool, read_records


def contents(spool: Spool) -> list[bytes]:
    return [bytes(data) for _, _, data in spool.tail(10_000)]


@pytest.mark.parametrize("block", [33, 100, 1 << 20])
def test_spool_gives_back_frames_of_any_size(
    tmp_path: Path, rng: np.random.Generator, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "BLOCK_BYTES", block)
    frames = [(b"%d" % i, rng.bytes(size)) for i, size in enumerate((0, 1, 70, 5000, 0, 31))]
    spool = Spool(tmp_path, 1 << 20, 1 << 20)
    assert spool.append(frames[:4]) == range(4) and spool.append(frames[4:]) == range(4, 6)
    spool.sync(durable=False)
    assert contents(spool) == [data for _, data in frames]
    ((path, _, start, stop),) = spool.ranges(1, 6)
    cut = [bytes(data) for _, data in read_records(path, start, stop - 1)]
    assert cut == [data for _, data in frames[1:5]]
    spool.close()


def test_spool_cut_record_is_gone_after_reopening(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20, 1 << 20)
    for data in (b"first", b"second"):
        spool.append([(b"x", data)])
    spool.close()
    path = next(tmp_path.glob("*.frames"))
    path.write_bytes(path.read_bytes()[:-1])
    again = Spool(tmp_path, 1 << 20, 1 << 20)
    assert again.end == 1 and again.append([(b"x", b"third")]) == range(1, 2)
    again.sync(durable=False)
    assert contents(again) == [b"first", b"third"]
    again.close()


def test_spool_forgets_what_is_done_and_names_what_is_missing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100, 1 << 20)
    for i in range(30):
        spool.append([(b"x", bytes([i]) * 20)])
    spool.sync(durable=False)
    spool.forget(25)
    assert len(list(tmp_path.glob("*.frames"))) == 3 and 20 < spool.first <= 25
    found = [d for p, _, low, high in spool.ranges(25, 30) for _, d in read_records(p, low, high)]
    assert found == [bytes([i]) * 20 for i in range(25, 30)]
    with pytest.raises(InputError, match="frames 0 to 30 are asked for"):
        spool.ranges(0, 30)
    spool.close()
