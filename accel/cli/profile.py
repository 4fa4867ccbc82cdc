"""`accel profile`: where the time of a model goes, node by node."""

from __future__ import annotations

from typing import Annotated

import typer

import accel
from accel.cli.options import BatchSize, Json, Model, Threads
from accel.cli.output import out, print_json
from accel.cli.prepare import for_device

Backend = Annotated[str, typer.Option("--backend", "-b", help="Device to run on.")]
Repeats = Annotated[int, typer.Option(help="Runs, of which the medians are shown.", min=1)]


def profile(
    path: Model,
    backend: Backend = "cpu",
    batch_size: BatchSize = 1,
    threads: Threads = 1,
    repeats: Repeats = 50,
    as_json: Json = False,
) -> None:
    """Time every layer of a model on noise, as a share of the dot product peak where it is ours."""
    model = for_device(accel.load(path), backend)
    program = accel.device(backend).compile(model, batch_size=batch_size, threads=threads)
    found = program.profile(repeats=repeats)
    if as_json:
        print_json(found.to_dict())
    else:
        out().print(str(found), markup=False, soft_wrap=True)
