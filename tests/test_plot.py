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
        "machine_info": {
            "cpu": {"brand_raw": "Test CPU"},
            "versions": {"python": "3.11"},
            "dot_peak_gop_per_s": {"avx2": 400.0},
        },
        "benchmarks": [
            {
                "extra_info": {
                    "network": "a network",
                    "layer": layer,
                    "macs": 1000,
                    "threads": 1,
                    "isa": "avx2",
                    "dot_peak_gop_per_s": 400.0,
                    "engines": {
                        name: {
                            "engine": name.split()[0],
                            "best_us": 2.0 / rate,
                            "gop_per_s": rate,
                            "share_of_peak": rate / 400,
                        }
                        for name, rate in engines.items()
                    },
                },
            }
            for layer, engines in rates.items()
        ],
    }


RATES = {"3x3 64@56": {"cpu A-128": 300.0, "openvino": 200.0}, "1x1 64-256@56": {"cpu A-64": 240.0}}


def plot(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "plot.py"), str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_plot_writes_a_picture_and_names_every_layer(tmp_path: Path) -> None:
    source = tmp_path / "r.json"
    source.write_text(json.dumps(results(RATES)))
    done = plot(source, tmp_path / "bars")
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(tmp_path / "bars.png"))
    assert picture is not None and picture.std() > 10
    text = (tmp_path / "bars.svg").read_text()
    assert all(f"<!-- {name} -->" in text for name in [*RATES, "75", "60", "a network, 1 thread"])


def test_plot_of_results_without_rates_says_what_to_run(tmp_path: Path) -> None:
    source = tmp_path / "r.json"
    source.write_text(json.dumps({**results({}), "benchmarks": [{"extra_info": {}}]}))
    done = plot(source, tmp_path / "bars")
    assert done.returncode == 1 and "run bench_gemm or bench_conv" in done.stderr


MEMORY = {"operation": "quantize", "best_us": 5.0, "isa": "avx2", "gb_per_s": 40.0}


def test_table_tells_of_memory_beside_loads_alone(tmp_path: Path) -> None:
    content = results({})
    probed = {**MEMORY, "operation": "product", "probe_gb_per_s": 50.0, "share": 0.8}
    content["benchmarks"] = [{"extra_info": {"memory": m}} for m in (MEMORY, probed)]
    source = tmp_path / "r.json"
    source.write_text(json.dumps(content))
    command = [sys.executable, str(ROOT / "bench" / "table.py"), str(source)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| quantize | 5.0 | 40.0 |  |  |" in text
    assert "| product | 5.0 | 40.0 | 50.0 | 80% |" in text
    done = plot(source, tmp_path / "bars")
    assert done.returncode == 1 and "no layers to draw" in done.stderr


def test_table_tells_shares_and_the_fastest_peer(tmp_path: Path) -> None:
    source = tmp_path / "r.json"
    source.write_text(json.dumps(results(RATES)))
    command = [sys.executable, str(ROOT / "bench" / "table.py"), str(source)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    row = next(line for line in text.splitlines() if line.startswith("| 3x3 64@56"))
    assert "75.0%" in row and "50.0%" in row and "1.50x openvino" in row
