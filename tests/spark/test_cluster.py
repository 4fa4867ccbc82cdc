"""Parts of a job are killed in the middle: the same rows, each once, with the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "spark_faults.py"


@pytest.mark.parametrize(
    "fault", [["executor"], ["worker"], ["driver", "--points", "1"]], ids=lambda fault: fault[0]
)
def test_killed_part_of_a_job_changes_no_row(fault: list[str]) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, SCRIPT, *fault], env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost, 0 doubled, 0 changed" in done.stdout
