"""The stream and its sender, run as two people run them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from accel.demo import digits_test
from spark_bridge.session import QUICK_START

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 120


def command(script: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / script), *map(str, arguments)]


@pytest.fixture
def env() -> dict[str, str]:
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return os.environ | path | {"SPARK_SUBMIT_OPTS": QUICK_START}


def test_stream_job_classifies_what_the_sender_brings(tmp_path: Path, env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    labels = digits_test()[1]
    arguments = ("--port", port, "--folder", tmp_path, "--frames", len(labels))
    with subprocess.Popen(
        command("stream_job.py", *arguments), env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as job:  # fmt: skip
        try:
            sent = subprocess.run(
                command("send_frames.py", "--port", port, "--wait", WAIT_S),
                env=env, text=True, capture_output=True, timeout=2 * WAIT_S,
            )  # fmt: skip
            said, complaints = job.communicate(timeout=WAIT_S)
        finally:
            job.kill()
    assert (sent.returncode, job.returncode) == (0, 0), sent.stderr + complaints
    assert f"{len(labels)} frames sent and answered" in sent.stdout
    assert f"{len(labels)} frames in" in said and "0 with an error" in said
    table = pq.read_table(tmp_path / "results").sort_by("number").to_pydict()
    assert table["name"] == [f"{i:04d}.png" for i in range(len(labels))]
    right = sum(a == b for a, b in zip(table["label"], labels.tolist(), strict=True))
    assert right > 0.98 * len(labels)


def test_send_frames_nobody_listens_is_one_line(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = subprocess.run(command("send_frames.py", "--port", port, "--wait", 0.1), env=env,
                          text=True, capture_output=True, timeout=WAIT_S)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
