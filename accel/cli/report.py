"""`accel report`: one page on a model, to open in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import accel
from accel.cli.options import BatchSize, Model, Threads, parse_backends
from accel.cli.output import say

Output = Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")]
Backends = Annotated[str, typer.Option(help="Devices to compare, with commas between.")]
Repeats = Annotated[int, typer.Option(help="Runs, of which the medians are shown.", min=1)]


def report(
    path: Model,
    output: Output,
    backends: Backends = "cpu,mkl,openvino,onnxruntime,fpga",
    batch_size: BatchSize = 1,
    threads: Threads = 1,
    repeats: Repeats = 20,
) -> None:
    """Write a page with the time and error of every layer, the devices, and the memory plan."""
    from accel.report import report_page, survey  # loads the kernels, which may not be built

    found = survey(accel.load(path), parse_backends(backends), batch_size, threads, None, repeats)
    output.write_text(report_page(found), encoding="utf-8")
    say(f"wrote {output}")
