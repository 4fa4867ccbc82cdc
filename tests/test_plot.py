"""The picture of a benchmark run, drawn from a result file as pytest-benchmark writes it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2

ROOT = Path(__file__).resolve().parents[1]


def results(rates: dict[str, dict[str, float]]) -> dict[str, Any]:
    """A result file of some layers; the dot peak is 400 GOP/s."""
    return {
        "datetime": "2026-01-02T03:04:05",
        "machine_info": {"cpu": {"brand_raw": "Test CPU"}},
        "benchmarks": [
            {
                "group": layer,
                "extra_info": {
                    "engine": engine,
                    "isa": "avx2",
                    "gop_per_s": rate,
                    "share_of_peak": rate / 400,
                },
            }
            for layer, engines in rates.items()
            for engine, rate in engines.items()
        ],
    }


def plot(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "plot.py"), str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_plot_writes_a_picture_and_names_every_layer(tmp_path: Path) -> None:
    source = tmp_path / "r.json"
    rates = {"3x3 64@56": {"cpu": 300.0, "openvino": 200.0}, "1x1 64-256@56": {"cpu": 240.0}}
    source.write_text(json.dumps(results(rates)))
    done = plot(source, tmp_path / "bars")
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(tmp_path / "bars.png"))
    assert picture is not None and picture.std() > 10
    text = (tmp_path / "bars.svg").read_text()
    assert all(f"<!-- {name} -->" in text for name in [*rates, "75%", "60%", "dot peak"])


def test_plot_of_results_without_rates_says_what_to_run(tmp_path: Path) -> None:
    source = tmp_path / "r.json"
    source.write_text(json.dumps({**results({}), "benchmarks": [{"extra_info": {}}]}))
    done = plot(source, tmp_path / "bars")
    assert done.returncode == 1 and "run bench_gemm or bench_conv" in done.stderr
