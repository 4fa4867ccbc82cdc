"""`accel demo`: real handwriting, read by every device of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.markup import escape

import accel
from accel.cli.measure import Measurement, measure
from accel.cli.options import Json, Limit, Threads
from accel.cli.output import human_bytes, human_seconds, out, percent, print_json, progress, table
from accel.cli.score import Score, classes, score
from accel.demo import digits_model, digits_test
from accel.errors import InputError
from accel.program import Array

BATCH = 32
DRAWN = 4
INK = 128  # of 255: darker squares are drawn
QUADRANTS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"  # index: 1 upper left, 2 upper right, 4 lower left, 8 lower right
PLAIN = "".join("#" if bits.bit_count() > 1 else " " for bits in range(16))
Save = Annotated[
    Path | None, typer.Option(help="Write the cpu's answers to this .npz, for examples/.")
]


def demo(
    threads: Threads = 1, limit: Limit = None, save: Save = None, as_json: Json = False
) -> None:
    """Read handwritten digits on every device and compare them with fp32."""
    images, labels = digits_test()
    images, labels = images[:limit], labels[:limit]
    model = digits_model()
    quantized = model.quantize()
    runs = [_measured(model, "onnxruntime", images, threads)]
    names = [d.name for d in accel.devices() if d.available]
    runs += [_measured(quantized, name, images, threads) for name in names]
    scores = [score(r.outputs, runs[0].outputs, labels) for r in runs]
    cpu = next(r for r in runs if r.device == "cpu")
    if save is not None:
        save_answers(save, cpu)
    if as_json:
        rows = [_as_dict(r, s) for r, s in zip(runs, scores, strict=True)]
        print_json({"rows": len(images), "runs": rows, "bit_identical": twins(runs)})
        return
    console = out()
    _print_task(console, images, labels, cpu)
    _print_table(console, runs, scores)
    _print_meaning(console, runs, scores)


def _measured(
    model: accel.Model, name: str, images: npt.NDArray[np.uint8], threads: int
) -> Measurement:
    with progress(f"reading digits on {name}") as advance:
        return measure(model, name, images, BATCH, threads, advance)


def save_answers(path: Path, run: Measurement) -> None:
    """Write top1 (N,) int64, logits (N, 10) float32 and the device's name."""
    try:
        with path.open("wb") as stream:
            np.savez(stream, top1=best(run), logits=run.main, device=run.device)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def best(run: Measurement) -> npt.NDArray[np.int64]:
    """The digit each image is read as."""
    found = classes(run.main)
    if found is None:
        raise InputError(f"the digits model gave {run.main.shape}; expected (N, 10)")
    return found


def twins(runs: list[Measurement]) -> list[str]:
    """Devices whose int8 answers equal the cpu's bit for bit, the cpu among them."""
    cpu = next(r for r in runs if r.device == "cpu")
    int8 = [r for r in runs if r.precision == "int8"]
    return [r.device for r in int8 if r.main.tobytes() == cpu.main.tobytes()]


def _print_task(
    console: Console, images: npt.NDArray[np.uint8], labels: Array, cpu: Measurement
) -> None:
    console.rule("[bold]Reading handwriting with 8-bit numbers", align="left")
    console.print(
        "A small network has learned handwritten digits in 32-bit numbers (fp32). Turned into "
        f"8-bit numbers (int8), it now reads {len(images)} digits that it has never seen, on every "
        f"device of this machine. The first {len(images[:DRAWN])}:\n"
    )
    characters = QUADRANTS if console.encoding.startswith("utf") else PLAIN
    drawings = [draw(image, characters) for image in images[:DRAWN]]
    for line in zip(*drawings, strict=True):
        console.print("  ".join(line), markup=False, no_wrap=True, overflow="crop")
    reads = [f"    reads {c}".ljust(len(drawings[0][0])) for c in best(cpu)[:DRAWN]]
    console.print("  ".join(reads).rstrip(), style="bold", no_wrap=True, overflow="crop")


def draw(image: npt.NDArray[np.uint8], characters: str) -> list[str]:
    """A (32, 32, 1) image as 8 lines of 16 characters, each four squares of 2 by 1 pixels."""
    ink = image.reshape(16, 2, 32).mean(axis=1) > INK
    cells = ink.reshape(8, 2, 16, 2).transpose(0, 2, 1, 3).reshape(8, 16, 4)
    return ["".join(characters[bits] for bits in line) for line in cells @ (1, 2, 4, 8)]


def _print_table(console: Console, runs: list[Measurement], scores: list[Score]) -> None:
    columns = ["device", "numbers", "read right", "same as fp32", "one image", "images/s"]
    shown = table(columns, right=columns[2:])
    for i, (r, s) in enumerate(zip(runs, scores, strict=True)):
        mark = "*" if r.simulated else " "
        shown.add_row(
            r.device,
            r.precision + (" reference" if i == 0 else ""),
            percent(s.top1),
            percent(s.agreement),
            human_seconds(r.latency_s) + mark,
            f"{r.rows_per_s:,.0f}{mark}",
        )
    for info in accel.devices():
        if not info.available:
            shown.add_row(info.name, "[dim]not installed[/]", "", "", "", "")
    console.print(shown)


def _print_meaning(console: Console, runs: list[Measurement], scores: list[Score]) -> None:
    cpu = next(i for i, r in enumerate(runs) if r.device == "cpu")
    ratio = runs[0].model_bytes / runs[cpu].model_bytes
    total, here = len(runs[0].main), scores[cpu]
    same = round((here.agreement or 0.0) * total)
    size = f"{ratio:.1f} times smaller ({human_bytes(runs[cpu].model_bytes)})"
    lines = [f"cpu reads {same} of {total} digits as fp32 does, from a model {size}."]
    lines += ["It was made from the fp32 model alone; no calibration images were needed."]
    equal = twins(runs)
    if len(equal) > 1:
        count = runs[cpu].main.size
        lines += [f"{', '.join(equal)}: all {count} scores are the same, bit for bit."]
    lines += [f"one image: median time of one alone; images/s: in batches of {BATCH}."]
    lines += ["auto times the installed devices on the model and takes the fastest."]
    if any(r.simulated for r in runs):
        lines += ["* time on the simulated card, not of this machine."]
    missing = [f"{d.name}: {d.detail}" for d in accel.devices() if not d.available]
    lines += [escape(f"not here: {line}") for line in missing]
    for line in lines:
        console.print(line, soft_wrap=True)


def _as_dict(r: Measurement, s: Score) -> dict[str, Any]:
    return {
        "device": r.device,
        "model": r.precision,
        "top1": s.top1,
        "agreement": s.agreement,
        "latency_ms": r.latency_s * 1e3,
        "rows_per_s": r.rows_per_s,
        "simulated": r.simulated,
    }
