"""Markdown tables of a benchmark run, for docs/benchmarks.md.

make bench BENCH="bench/bench_gemm.py bench/bench_conv.py --benchmark-json build/bench.json"
.venv/bin/python bench/table.py build/bench.json
"""

from __future__ import annotations

import sys
from typing import Any

from results import OURS, Results, Row, read


def main() -> None:
    """Read a result file and print one table for each network, and one of what memory bounds."""
    if len(sys.argv) != 2:
        sys.exit("usage: table.py RESULTS.json")
    print("\n".join(lines(read(sys.argv[1]))))


def lines(results: Results) -> list[str]:
    text = [results.caption, "", "| instruction set | dot peak of one core, GOP/s |", "|---|---|"]
    text += [f"| {name} | {rate:.1f} |" for name, rate in results.peaks.items()]
    for (network, threads), rows in results.networks().items():
        text += ["", f"### {network}, {threads} thread{'s' * (threads > 1)}", ""]
        text += table(rows)
    return text + (memory_table(results.memory) if results.memory else [])


def table(rows: list[Row]) -> list[str]:
    """Shares of the peak by engine, and how much faster ours is than the fastest peer."""
    names = list(dict.fromkeys(column(row, name) for row in rows for name in row.engines))
    names.sort(key=lambda name: name.split()[0] not in OURS)
    header = ["layer", "µs", "GOP/s", *names, "to the fastest peer"]
    text = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for row in rows:
        cells = {column(row, name): f"{row.share(name):.1%}" for name in row.engines}
        ours, peer = row.ours(), row.fastest_peer()
        own = row.engines[ours] if ours else None
        times = [f"{own['best_us']:.1f}", f"{own['gop_per_s']:.0f}"] if own else ["", ""]
        ratio = (
            f"{row.engines[peer]['best_us'] / own['best_us']:.2f}x {peer}" if own and peer else ""
        )
        line = [row.layer, *times, *(cells.get(name, "") for name in names), ratio]
        text.append("| " + " | ".join(line) + " |")
    return text


def memory_table(found: list[dict[str, Any]]) -> list[str]:
    """Bytes per second, and the share of loads or copies alone."""
    header = "| operation | µs | GB/s | loads or copies alone | share |"
    text = ["", "### memory, 1 thread", "", header, "|---" * 5 + "|"]
    for info in found:
        limit = f"{info['probe_gb_per_s']:.1f} | {info['share']:.0%}" if "share" in info else " | "
        text.append(
            f"| {info['operation']} | {info['best_us']:.1f} | {info['gb_per_s']:.1f} | {limit} |"
        )
    return text


def column(row: Row, name: str) -> str:
    """The engine, and its mode where the row has several of the engine."""
    engine = row.engines[name]["engine"]
    several = sum(e["engine"] == engine for e in row.engines.values()) > 1
    return name if several else str(engine)


if __name__ == "__main__":
    main()
