"""The jobs that share a session: what a person runs by one command, and what it then says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import accel
from accel.demo import digits_test
from accel.demo_pages import pages

Example = Callable[[str], ModuleType]


def test_sql_job_answers_its_queries(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    assert example("sql_job").main([]) == 0
    said = capsys.readouterr().out
    counts = re.findall(r"^\|(\d) +\|(\d+) +\|[01]\.\d+ +\|$", said, re.M)
    truth = np.bincount(digits_test()[1][:200])
    found = {int(digit): int(count) for digit, count in counts}
    assert sum(found.values()) == 200
    assert sum(abs(found[digit] - truth[digit]) for digit in range(10)) <= 8


def test_crop_job_writes_features_that_search_job_searches(
    example: Example, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "features.parquet")
    assert example("crop_job").main(["--output", out]) == 0
    assert re.search(r"rows +200\n +errors +0\n +written +\S+features\.parquet",
                     capsys.readouterr().out)  # fmt: skip
    table = pq.read_table(out).sort_by("path").to_pydict()
    _, labels, corners = pages(200)
    by_path = {f"{label}/{i:04d}.png": corners[i] for i, label in enumerate(labels.tolist())}
    assert sorted(by_path) == table["path"] and set(table["dim"]) == {64}
    off = [np.abs(by_path[p] - [x, y]).max()
           for p, x, y in zip(table["path"], table["x1"], table["y1"], strict=True)]  # fmt: skip
    assert max(off) <= 8  # pixels
    assert example("search_job").main(["--features", out, "-k", "4"]) == 0
    said = capsys.readouterr().out
    found = re.search(r"(\d+) of 40 neighbours are from the folder of their query", said)
    assert found is not None and int(found[1]) >= 34


def test_search_job_digits_by_faiss(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    job = example("search_job")
    assert job.main(["-k", "3", "--index", "faiss", "--query", "4/9999.png"]) == 2
    assert "error: no features of '4/9999.png'" in capsys.readouterr().err
    assert job.main(["-k", "3", "--index", "faiss"]) == 0
    found = re.search(r"(\d+) of 30 neighbours are from", capsys.readouterr().out)
    assert found is not None and int(found[1]) >= 27


def test_transfer_job_learns_from_a_folder_and_writes_one_model(
    example: Example, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, photos = tmp_path / "new.int8.onnx", tmp_path / "photos"
    example("digit_files").write_digits(photos, 160, odd_or_even=True)
    (photos / "odd" / "broken.png").write_bytes(b"junk")
    job = example("transfer_job")
    assert job.main(["--input", str(photos), "--output", str(out)]) == 0
    found = re.search(r"accuracy +(\d+)\.\d\d% \((\d+) of (\d+)\)", capsys.readouterr().out)
    assert found is not None and int(found[1]) >= 85
    images, labels = digits_test()
    program = accel.device("cpu").compile(accel.load(out), batch_size=32)
    odd = program.run(images[200:500]).argmax(1)
    assert np.mean(odd == labels[200:500] % 2) > 0.9
    assert job.main(["--test", "2"]) == 2
    assert "error: --test is 2.0" in capsys.readouterr().err


def test_crop_job_own_folder_counts_errors(
    example: Example, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, page in enumerate(pages(6)[0]):
        cv2.imwrite(str(photos / f"{i}.png"), page)
    (photos / "empty.png").write_bytes(b"")
    arguments = ["--input", str(photos), "--pick", "all", "--output", str(tmp_path / "out")]
    assert example("crop_job").main(arguments) == 0
    assert re.search(r"rows +7\n +errors +1 \(1 EMPTY\)", capsys.readouterr().out)
    assert pq.read_table(tmp_path / "out").num_rows == 7
