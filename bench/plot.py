"""Bars of a benchmark run: GOP/s of every engine on every layer, beside the dot peak.

    make bench BENCH="bench/bench_gemm.py bench/bench_conv.py --benchmark-json build/bench.json"
    .venv/bin/python bench/plot.py build/bench.json build/bench

writes build/bench.png and build/bench.svg. Reads what `pytest --benchmark-json` writes; the
figures are those that the benchmarks put into `extra_info`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

COLOURS = {"cpu": "#1f6f8b", "mkl": "#c9a227", "onnxruntime": "#9a9a9a", "openvino": "#7a4f9a"}


def main() -> None:
    """Read a result file and write both pictures."""
    if len(sys.argv) != 3:
        sys.exit("usage: plot.py RESULTS.json OUTPUT (without ending)")
    results = json.loads(Path(sys.argv[1]).read_text())
    rows = rates(results["benchmarks"])
    if not rows:
        sys.exit(f"{sys.argv[1]} holds no benchmark with gop_per_s; run bench_gemm or bench_conv")
    figure = draw(rows, subtitle(results))
    for ending in ("png", "svg"):
        figure.savefig(f"{sys.argv[2]}.{ending}", dpi=130)


def rates(benchmarks: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Layer to engine to (GOP/s, share of the dot peak), in the order of the run."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for bench in benchmarks:
        info = bench["extra_info"]
        if "gop_per_s" in info and "share_of_peak" in info:
            share = float(info["share_of_peak"])
            engines = found.setdefault(str(bench["group"]), {})
            engines[str(info["engine"])] = (float(info["gop_per_s"]), share)
    return found


def subtitle(results: dict[str, Any]) -> str:
    """Machine, date and instruction set of the run."""
    info = next(b["extra_info"] for b in results["benchmarks"] if "isa" in b["extra_info"])
    cpu = results["machine_info"].get("cpu", {}).get("brand_raw", "unknown CPU")
    return f"{cpu}, {info['isa']}, {results['datetime'][:10]}, medians"


def dot_peak(rows: dict[str, dict[str, tuple[float, float]]]) -> float:
    """GOP/s that the shares refer to, from the highest of them: they are rounded."""
    rate, share = max((v for row in rows.values() for v in row.values()), key=lambda v: v[1])
    return rate / share if share else rate


def draw(rows: dict[str, dict[str, tuple[float, float]]], caption: str) -> Any:
    """One group of bars a layer, one bar an engine, its share of the peak written on it."""
    engines = [e for e in COLOURS if any(e in row for row in rows.values())]
    figure, axes = plt.subplots(figsize=(10, 1.5 + 0.22 * len(rows) * (len(engines) + 1)))
    places = np.arange(len(rows)) * (len(engines) + 1.0)
    for i, engine in enumerate(engines):
        values = [row.get(engine, (0.0, 0.0)) for row in rows.values()]
        bars = axes.barh(
            places + i, [v for v, _ in values], 0.9, color=COLOURS[engine], label=engine
        )
        texts = [f"{share:.0%}" if rate else "" for rate, share in values]
        axes.bar_label(bars, texts, padding=3, fontsize=7)
    peak = dot_peak(rows)
    axes.axvline(peak, color="black", linewidth=1, linestyle="--")
    axes.text(peak * 0.995, -0.8, "dot peak", ha="right", fontsize=8)
    axes.set_ylim(-1.5, places[-1] + len(engines) + 0.5)
    axes.set_yticks(places + (len(engines) - 1) / 2, list(rows), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("GOP/s (2 operations a multiplication)")
    axes.set_xlim(0, peak * 1.08)
    axes.set_title(f"int8 layers, local windows on cpu and mkl\n{caption}", fontsize=10)
    axes.legend(loc="lower right", fontsize=8, bbox_to_anchor=(0.97, 0.02))
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    main()
