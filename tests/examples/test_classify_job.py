"""The example job, run as a person runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pyspark.sql import Row

import accel
from accel.demo import digits_model, digits_test
from spark_bridge.session import QUICK_START

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "examples" / "classify_job.py"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the job in a folder of its own."""

    def job(*arguments: object, command: tuple[str, ...] = (sys.executable,)) -> object:
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        env["SPARK_SUBMIT_OPTS"] = QUICK_START
        return subprocess.run(
            [*command, str(JOB), *map(str, arguments)],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return job  # type: ignore[return-value]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Predictions on the digits, made without Spark."""
    logits = accel.device("cpu").compile(digits_model().quantize()).run(digits_test()[0])
    path = tmp_path / "demo.npz"
    np.savez(path, logits=logits, top1=logits.argmax(1), device="cpu")
    return path


def test_classify_job_digits_equal_the_predictions_without_spark(run: Run, saved: Path) -> None:
    done = run("--expect", saved, "--backend", "cpu")
    assert done.returncode == 0, done.stderr
    assert "digits (int8) on device cpu" in done.stdout
    assert re.search(r"rows +901\n +errors +0\n +devices +901 cpu\n +time +queue", done.stdout)
    assert re.search(r"accuracy +99\.\d\d% \(\d+ of 901\)", done.stdout)
    assert "901 rows from Spark equal the predictions" in done.stdout
    assert "Traceback" not in done.stderr


def test_compare_other_predictions_are_counted(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(JOB.parent))
    import classify_job

    expected = classify_job.read_expected(saved)
    rows = [
        Row(path=f"{i:08d}", prediction=Row(tensors=[Row(data=logits.tobytes())]))
        for i, logits in enumerate(expected.logits)
    ]
    assert classify_job.compare(rows, expected) == 0
    bits = expected.logits.view(np.uint32)
    bits[[3, 5], 0] ^= 1
    assert classify_job.compare(rows[:-1], expected) == 1
    assert "3 of 901 rows differ" in capsys.readouterr().out


def test_classify_job_folder_under_spark_submit_counts_errors(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    images, labels = digits_test()
    for i in range(12):
        cv2.imwrite(str(folder / f"{i}.png"), images[i])
    (folder / "empty.png").write_bytes(b"")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:40])
    lines = [f"{i}.png,{labels[i]}" for i in range(12)]
    truth = tmp_path / "labels.csv"
    truth.write_text("\n".join(["file,label", *lines, ""]))
    submit = str(Path(sys.executable).parent / "spark-submit")
    done = run("--input", folder, "--labels", truth, "--partitions", 3, "--backend", "onnxruntime",
               command=(submit, "--master", "local[2]"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"rows +14\n +errors +2 \(1 DECODE, 1 EMPTY\)", done.stdout)
    assert "(12 of 12)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "gpu"], "device 'gpu' not found; available: cpu"),
        (["--expect", "none.npz"], "cannot read predictions from none.npz"),
    ],
)
def test_classify_job_wrong_request_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(JOB.parent)
    monkeypatch.chdir(tmp_path)
    import classify_job

    assert classify_job.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {message}") and not said.out
