"""Processor time and memory of this process's descendants, from /proc (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One descendant: its command line, and the processor time it and its ended children took."""

    pid: int
    command: str
    cpu_s: float


def descendants(root: int | None = None) -> list[Process]:
    """All processes below `root`, by default below this one."""
    parents: dict[int, int] = {}
    found: dict[int, Process] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        found[pid] = Process(pid, command, sum(map(int, fields[11:15])) * TICK_S)
    root = root or os.getpid()
    return [process for pid, process in found.items() if pid != root and _below(pid, root, parents)]


def cpu_s() -> float:
    """Processor seconds of all descendants so far."""
    return sum(process.cpu_s for process in descendants())


def private_bytes(pid: int | str = "self") -> int:
    """Memory that only this process holds (USS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


def _below(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != root:
        pid = parents[pid]
    return pid == root
