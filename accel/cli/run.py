"""`accel run`: a model's answers for a file or folder of inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape

import accel
from accel.cli.measure import run_batches
from accel.cli.options import (
    BatchSize,
    Crop,
    Input,
    Json,
    Labels,
    Limit,
    Mean,
    Model,
    Order,
    Resize,
    Scale,
    Std,
    Threads,
)
from accel.cli.output import out, percent, print_json, progress, table
from accel.cli.prepare import ImageOptions, for_device, prepare
from accel.cli.score import classes
from accel.errors import InputError
from accel.program import Array
from accel.samples import Samples

SHOWN = 20
Backend = Annotated[str, typer.Option("--backend", "-b", help="Device to run on.")]
Save = Annotated[
    Path | None, typer.Option(help="Write every output to this .npz, one row per input.")
]


def run(
    path: Model,
    source: Input,
    backend: Backend = "cpu",
    labels: Labels = None,
    resize: Resize = None,
    crop: Crop = None,
    order: Order = "rgb",
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    batch_size: BatchSize = 8,
    threads: Threads = 1,
    limit: Limit = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Run a model over images or arrays and print what it says."""
    device = accel.device(backend)
    options = ImageOptions(resize, crop, order, mean, std, scale)
    model, samples = prepare(path, source, options, labels, limit)
    model = for_device(model, backend)
    program = device.compile(model, batch_size=batch_size, threads=threads)
    with progress(f"running on {program.device.name}") as advance:
        outputs, _ = run_batches(program, samples.x, advance)
    if save is not None:
        _save(save, outputs)
    rows = _rows(outputs, samples)
    if as_json:
        print_json({"device": program.label, "rows": rows})
        return
    _print(rows, samples, program.label)


def _save(path: Path, outputs: dict[str, Array]) -> None:
    try:
        with path.open("wb") as stream:
            np.savez(stream, **outputs)  # type: ignore[arg-type]  # names come from the model
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _rows(outputs: dict[str, Array], samples: Samples) -> list[dict[str, Any]]:
    """One dict per input: the best class and its score, or the shape and range of the output."""
    y = next(iter(outputs.values()))
    best = classes(y)
    if best is None:
        parts = {name: list(array.shape[1:]) for name, array in outputs.items()}
        return [{"name": name, "outputs": parts} for name in samples.names]
    flat = y.reshape(len(best), -1)
    rows: list[dict[str, Any]] = [
        {"name": name, "class": int(c), "score": float(flat[i, c])}
        for i, (name, c) in enumerate(zip(samples.names, best, strict=True))
    ]
    if samples.labels is not None:
        for row, label in zip(rows, samples.labels, strict=True):
            row["label"] = int(label)
    return rows


def _print(rows: list[dict[str, Any]], samples: Samples, device: str) -> None:
    columns = list(rows[0])
    shown = table(columns, right=[c for c in columns if c != "name"])
    for row in rows[:SHOWN]:
        shown.add_row(*(_cell(row[c]) for c in columns))
    console = out()
    console.print(shown)
    if len(rows) > SHOWN:
        console.print(f"... and {len(rows) - SHOWN} more; --json or --save give all")
    summary = f"{len(rows)} rows on {device}"
    if "label" in columns:
        right = sum(row["class"] == row["label"] for row in rows) / len(rows)
        summary += f", {percent(right)} of them as labelled"
    if samples.errors:
        summary += f"; {len(samples.errors)} files left out"
    console.print(summary)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return escape(", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in value.items()))
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))
