"""Bars of a benchmark run: every engine's share of the dot peak on every layer.

    make bench BENCH="bench/bench_gemm.py bench/bench_conv.py --benchmark-json build/bench.json"
    .venv/bin/python bench/plot.py build/bench.json build/bench

writes build/bench.png and build/bench.svg: one panel for each network and number of threads.
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from results import Results, Row, read

COLOURS = {
    "cpu": "#0b6e8f",
    "mkl": "#7fc4d8",
    "onnxruntime": "#e08214",
    "openvino": "#8e5ea2",
    "torch": "#c0392b",
    "mkl_gemm": "#9a9a9a",
}
ROW_HEIGHT, BAR = 0.44, 0.8


def main() -> None:
    """Read a result file and write both pictures."""
    if len(sys.argv) != 3:
        sys.exit("usage: plot.py RESULTS.json OUTPUT (without ending)")
    results = read(sys.argv[1])
    if not results.rows:
        sys.exit(f"{sys.argv[1]} holds no layers to draw; run bench_gemm or bench_conv")
    figure = draw(results)
    for ending in ("png", "svg"):
        figure.savefig(f"{sys.argv[2]}.{ending}", dpi=130, bbox_inches="tight")


def draw(results: Results) -> Any:
    """Panels under each other, as high as they have layers."""
    panels = results.networks()
    heights = [len(rows) + 1.2 for rows in panels.values()]
    figure, axes = plt.subplots(
        len(panels),
        squeeze=False,
        figsize=(9.5, ROW_HEIGHT * sum(heights) + 1.6),
        height_ratios=heights,
        sharex=True,
        layout="constrained",
    )
    for ax, ((network, threads), rows) in zip(axes[:, 0], panels.items(), strict=True):
        draw_panel(ax, rows, f"{network}, {threads} thread{'s' * (threads > 1)}")
    axes[-1, 0].set_xlabel(
        "share of the dot peak measured in the same rounds (100: black line), %", fontsize=8
    )
    handles = {}
    for ax in axes[:, 0]:
        handles.update(dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True)))
    used = {name: handles[name] for name in COLOURS if name in handles}
    figure.suptitle("int8 layers; cpu and mkl keep local windows", fontsize=9, x=0.01, ha="left")
    figure.legend(used.values(), used, loc="outside upper right", ncols=len(used), fontsize=7)
    figure.text(0.01, -0.01, results.caption, fontsize=6, va="top")
    return figure


def draw_panel(ax: Any, rows: list[Row], title: str) -> None:
    """Layers from top to bottom; one bar for each engine, our default mode alone."""
    present = {e["engine"] for row in rows for e in row.engines.values()}
    engines = [name for name in COLOURS if name in present]
    height = BAR / len(engines)
    for i, engine in enumerate(engines):
        shares = [100 * best_share(row, engine) for row in rows]
        at = np.arange(len(rows)) + (i - (len(engines) - 1) / 2) * height
        ax.barh(at, shares, height, color=COLOURS[engine], label=engine)
        if engine == "cpu":
            for y, share in zip(at, shares, strict=True):
                ax.text(share + 0.6, y, f"{share:.0f}", va="center", fontsize=6)
    ax.set_yticks(range(len(rows)), [row.layer for row in rows], fontsize=7)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.axvline(100, color="black", linewidth=0.8)
    ax.set_xlim(0, 108)
    ax.set_title(title, fontsize=9, loc="left")
    ax.tick_params(axis="x", labelsize=7)
    ax.grid(axis="x", linewidth=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def best_share(row: Row, engine: str) -> float:
    """Of the engine's first mode, which is the default; 0 where it does not have the layer."""
    name = next((n for n, e in row.engines.items() if e["engine"] == engine), None)
    return (row.share(name) if name else None) or 0.0


if __name__ == "__main__":
    main()
