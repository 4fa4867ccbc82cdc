"""`accel compare`: one model on several devices, against fp32 on the same rows."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

import accel
from accel.cli.measure import Measurement, measure
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
    Window,
    parse_backends,
)
from accel.cli.output import human_bytes, human_seconds, out, percent, print_json, progress, table
from accel.cli.prepare import ImageOptions, prepare
from accel.cli.score import Score, score

REFERENCE = "onnxruntime"
Backends = Annotated[
    str | None,
    typer.Option(help="Devices, with commas between. Default: all usable, not the card."),
]


def compare(
    path: Model,
    source: Input,
    backends: Backends = None,
    labels: Labels = None,
    resize: Resize = None,
    crop: Crop = None,
    order: Order = "rgb",
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    window: Window = None,
    batch_size: BatchSize = 8,
    threads: Threads = 1,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Compare devices on one model: accuracy, agreement with fp32, speed and size."""
    names = parse_backends(backends) if backends is not None else default_backends()
    for name in names:
        accel.device(name)  # an unknown name is an error now, not after the images are read
    options = ImageOptions(resize, crop, order, mean, std, scale)
    model, samples = prepare(path, source, options, labels, limit)
    quantized = model if model.is_quantized else model.quantize(window=window)
    runs = []
    for used, name in [(model, REFERENCE), *((quantized, name) for name in names)]:
        with progress(f"running on {name}") as advance:
            runs.append(measure(used, name, samples.x, batch_size, threads, advance))
    scores = [score(r.outputs, runs[0].outputs, samples.labels) for r in runs]
    if as_json:
        rows = [_as_dict(r, s) for r, s in zip(runs, scores, strict=True)]
        print_json({"model": model.name, "rows": len(samples), "runs": rows})
        return
    _print(model.name, len(samples), runs, scores)


def default_backends() -> list[str]:
    """Every usable device but the simulated card, whose simulation is slow, and `auto`."""
    return [d.name for d in accel.devices() if d.available and d.name not in ("fpga", "auto")]


def _print(name: str, rows: int, runs: list[Measurement], scores: list[Score]) -> None:
    labelled, classed = scores[0].top1 is not None, scores[0].agreement is not None
    columns = ["device", "model", "top-1"] if labelled else ["device", "model"]
    columns += ["won", "lost"] if labelled else []
    same = f"as {runs[0].precision}"  # the reference is int8 where the given model is
    columns += [same] if classed else []
    columns += ["error", "latency", "rows/s"]
    sizes = ", ".join(dict.fromkeys(f"{r.precision} {human_bytes(r.model_bytes)}" for r in runs))
    shown = table(columns, right=columns[2:], title=f"{escape(name)}: {rows} rows; {sizes}")
    for i, (r, s) in enumerate(zip(runs, scores, strict=True)):
        cells = {
            "device": r.device,
            "model": r.precision + (" (ref)" if i == 0 else ""),
            "top-1": percent(s.top1),
            "won": str(s.won),
            "lost": str(s.lost),
            same: percent(s.agreement),
            "error": percent(s.error),
            "latency": human_seconds(r.latency_s) + ("*" if r.simulated else ""),
            "rows/s": f"{r.rows_per_s:,.0f}" + ("*" if r.simulated else ""),
        }
        shown.add_row(*(cells[c] for c in columns))
    console = out()
    console.print(shown)
    _print_legend(labelled, same if classed else None, any(r.simulated for r in runs))


def _print_legend(labelled: bool, same: str | None, simulated: bool) -> None:
    lines = []
    if labelled:
        lines += ["won, lost: rows right here and wrong in the reference (ref), and the reverse"]
    lines += [f"{same}: rows of the same class as the reference"] if same else []
    lines += ["error: rms difference of the outputs from the reference, of its rms"]
    lines += ["latency: median for one row alone; rows/s: all rows, in batches"]
    if simulated:
        lines += ["*: time of the simulated card"]
    for line in lines:
        out().print(line, style="dim")


def _as_dict(r: Measurement, s: Score) -> dict[str, Any]:
    return {
        "device": r.device,
        "model": r.precision,
        "top1": s.top1,
        "agreement": s.agreement,
        "won": s.won,
        "lost": s.lost,
        "error": s.error,
        "latency_ms": r.latency_s * 1e3,
        "rows_per_s": r.rows_per_s,
        "simulated": r.simulated,
        "bytes": r.model_bytes,
    }
