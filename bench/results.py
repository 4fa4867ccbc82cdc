"""Reads the measurements out of what `pytest --benchmark-json` writes."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS = ("cpu", "mkl")


@dataclass(frozen=True)
class Row:
    """One layer: what each engine, in each of its modes, reached."""

    network: str
    layer: str
    macs: int
    threads: int
    isa: str
    peak: float  # GOP/s of one core, in the same rounds
    engines: dict[str, dict[str, Any]]

    def share(self, name: str) -> float | None:
        return self.engines[name]["share_of_peak"] if name in self.engines else None

    def ours(self) -> str | None:
        """Our kernels in their default mode."""
        return next((name for name in self.engines if name.startswith("cpu ")), None)

    def fastest_peer(self) -> str | None:
        peers = [n for n, e in self.engines.items() if e["engine"] not in OURS]
        return min(peers, key=lambda n: self.engines[n]["best_us"], default=None)


@dataclass(frozen=True)
class Results:
    """A result file."""

    rows: list[Row]
    caption: str  # machine, instruction set, date, versions
    peaks: dict[str, float]  # GOP/s of one core, by instruction set
    memory: list[dict[str, Any]]  # of bench_memory: see memory.measure_memory

    def networks(self) -> dict[tuple[str, int], list[Row]]:
        """Rows by network and threads, in the order of the run."""
        found: dict[tuple[str, int], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.network, row.threads), []).append(row)
        return found


def read(path: str) -> Results:
    """Ends the program, saying why, where the file holds no layers."""
    content = json.loads(Path(path).read_text())
    extra = [b["extra_info"] for b in content["benchmarks"]]
    infos = [info for info in extra if "engines" in info]
    found = [info["memory"] for info in extra if "memory" in info]
    if not infos and not found:
        sys.exit(f"{path} holds no layers; run bench_gemm or bench_conv with --benchmark-json")
    rows = [
        Row(
            info["network"],
            info["layer"],
            info["macs"],
            info["threads"],
            info["isa"],
            info["dot_peak_gop_per_s"],
            info["engines"],
        )
        for info in infos
    ]
    machine = content["machine_info"]
    cpu = machine.get("cpu", {}).get("brand_raw", "unknown CPU")
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    isa = rows[0].isa if rows else found[0]["isa"]
    caption = f"{cpu}, {isa}, {content['datetime'][:10]}; {versions}"
    return Results(rows, caption, machine["dot_peak_gop_per_s"], found)
