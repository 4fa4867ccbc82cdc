"""Parts of a job are killed in the middle: the same rows, each once, with the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "spark_faults.py"
FAULTS = {"executor": [], "worker": [], "driver": ["--points", "1", "--spread", "1"]}
Runs = dict[str, "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """All at the same time: each mostly waits for processes that start."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    started = {
        name: subprocess.Popen([sys.executable, SCRIPT, name, *options], env=env, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name, options in FAULTS.items()
    }  # fmt: skip
    yield started
    for process in started.values():
        process.kill()


@pytest.mark.parametrize("fault", FAULTS)
def test_killed_part_of_a_job_changes_no_row(runs: Runs, fault: str) -> None:
    said, complaints = runs[fault].communicate(timeout=600)
    assert runs[fault].returncode == 0, said + complaints
    assert "0 lost, 0 doubled, 0 changed" in said
