"""What the commands print: tables for people, JSON for programs, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


class Advance(Protocol):
    """Told how far long work has come."""

    def __call__(self, done: int, total: int) -> None: ...


def out() -> Console:
    """Console of the answer, on stdout; made per call so that redirection is seen."""
    return Console(highlight=False)


def say(text: str) -> None:
    """A line about what is being done, on stderr: it never mixes with the answer."""
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


def table(columns: Sequence[str], *, right: Sequence[str] = (), title: str | None = None) -> Table:
    """An empty table; the columns named in `right` are aligned to the right."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


@contextmanager
def progress(text: str) -> Iterator[Advance]:
    """A bar on stderr while the block runs; nothing where stderr is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def human_bytes(count: int) -> str:
    """``117248`` as ``117 KB``: decimal units, as file managers show them."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= size:
            value = count / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{count} B"


def human_count(count: float) -> str:
    """``4089184256`` as ``4.09 G``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} "


def human_seconds(seconds: float) -> str:
    """Microseconds under a millisecond, else milliseconds."""
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
