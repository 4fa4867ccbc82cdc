"""`accel report`: one page on a model, to open in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import accel
from accel.cli.estimate import takes_dense
from accel.cli.options import BatchSize, Model, Threads, parse_backends
from accel.cli.output import say

Output = Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")]
Backends = Annotated[str, typer.Option(help="Devices to compare, with commas between.")]
CardName = Annotated[str, typer.Option(help="Simulated card to show; fpga must be compared.")]
Repeats = Annotated[int, typer.Option(help="Runs, of which the medians are shown.", min=1)]
STREAMS = 16  # requests under way on the card


def report(
    path: Model,
    output: Output,
    backends: Backends = "cpu,mkl,openvino,onnxruntime,fpga",
    card: CardName = "alveo-u50",
    batch_size: BatchSize = 1,
    threads: Threads = 1,
    repeats: Repeats = 20,
) -> None:
    """Write a page with the time and error of every layer, the devices, and the memory plan."""
    # here, so that the other commands work where the kernels were not built
    from accel.report import report_page, survey

    model, names = accel.load(path), parse_backends(backends)
    found = survey(model, names, batch_size, threads, None, repeats)
    page = report_page(found, *(_on_card(model, card, batch_size) if "fpga" in names else ()))
    output.write_text(page, encoding="utf-8")
    say(f"wrote {output}")


def _on_card(model: accel.Model, card: str, batch_size: int) -> tuple[str, str]:
    """The section on a card, and its style."""
    from accel.fpga import load_profile
    from accel.fpga.estimate import Load, simulate
    from accel.fpga.job import job_of
    from accel.fpga.page import CARD_STYLE, card_section

    profile = load_profile(card)
    job = job_of(model, None, takes_dense(profile))
    load = Load(batch_size, streams=STREAMS)
    found, used = simulate(job, profile, "pcie", load, trace=True)
    return card_section(f"On a simulated {card}", found, used), CARD_STYLE
