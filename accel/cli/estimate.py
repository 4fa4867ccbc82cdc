"""`accel estimate`: what a simulated FPGA card would give a model, from its shapes alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape

import accel
from accel.cli.options import Json, Model, Threads
from accel.cli.output import out, print_json, table
from accel.errors import InputError, ModelError
from accel.fpga.card import Card
from accel.fpga.estimate import INGESTS, Estimate, Load, simulate
from accel.fpga.job import Job, job_of, weight_inputs
from accel.fpga.page import card_page
from accel.fpga.plot import save_plot
from accel.fpga.profile import Profile, load_profile
from accel.fpga.report import Path, compare_job
from accel.images import ImageChain, decode, encode_jpeg
from accel.tensor_spec import TensorSpec

PHOTO = (375, 500)
"""Rows and columns of the photo whose decoding is timed: the usual size in ImageNet."""

REPEATS = 5
CardName = Annotated[str, typer.Option("--card", help="Card, as in docs/card.md.")]
Ingest = Annotated[str, typer.Option(help="How images arrive: pcie, nic or none (in memory).")]
Clock = Annotated[float | None, typer.Option(help="Clock of the engines in MHz.")]
Engines = Annotated[int | None, typer.Option(help="Engines on the card.")]
Batch = Annotated[int, typer.Option(help="Images in a request.")]
Queues = Annotated[int, typer.Option(help="Queues to the card.")]
Streams = Annotated[int, typer.Option(help="Requests in flight on each queue.")]
ShapeOption = Annotated[
    str | None, typer.Option("--shape", help="Input sizes where the file leaves them free.")
]
FaultsOption = Annotated[
    str, typer.Option("--faults", help="What goes wrong, as completion_lost:0.01,hang@5ms.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the faults.")]
Plot = Annotated[
    FilePath | None, typer.Option(help="Draw roofline and utilisation: .png, .svg or .pdf.")
]
Html = Annotated[FilePath | None, typer.Option(help="Write a page with the timeline.")]
TraceFile = Annotated[FilePath | None, typer.Option(help="Write a trace for ui.perfetto.dev.")]
Compare = Annotated[
    bool, typer.Option("--compare", help="Set the CPU of this machine beside it, decode included.")
]


def estimate(
    path: Model,
    card: CardName = "alveo-u50",
    batch: Batch = 1,
    queues: Queues = 1,
    streams: Streams = 16,
    clock_mhz: Clock = None,
    engines: Engines = None,
    ingest: Ingest = "pcie",
    shape: ShapeOption = None,
    faults: FaultsOption = "",
    seed: SeedOption = 0,
    compare: Compare = False,
    threads: Threads = 1,
    plot: Plot = None,
    html: Html = None,
    trace: TraceFile = None,
    as_json: Json = False,
) -> None:
    """Estimate a model on a simulated FPGA card. Only shapes matter: weights may be absent."""
    way = next((known for known in INGESTS if known == ingest), None)
    if way is None:
        raise InputError(f"--ingest {ingest!r} is not known; expected {', '.join(INGESTS)}")
    profile = _profile(card, clock_mhz, engines)
    model = accel.load(path)
    shapes = parse_shapes(shape, model)
    job = job_of(model, shapes, takes_dense(profile))
    load = Load(batch, queues, streams)
    traced = bool(html or trace)
    found, used = simulate(job, profile, way, load, faults=faults, seed=seed, trace=traced)
    paths = _compare(model, shapes, job, profile, threads) if compare else []
    title = f"{model.name} on {card}, ingest {way}"
    if plot:
        save_plot(plot, title, job.layers, profile, found)
    if html:
        html.write_text(card_page(title, found, used, paths), encoding="utf-8")
    if trace:
        _save_trace(trace, used)
    if as_json:
        shown = {"model": model.name, "card": card, "ingest": way, **asdict(found)}
        print_json(shown | ({"compare": [asdict(p) for p in paths]} if compare else {}))
        return
    _print(escape(title), found, paths)


def parse_shapes(text: str | None, model: accel.Model) -> dict[str, list[int]] | None:
    """Shapes from `1,3,224,224` for the only input, or `name=1,3,224,224`; `;` between several.

    Raises InputError for another form, or a name the model does not have.
    """
    if text is None:
        return None
    shapes = {}
    names = [spec.name for spec in model.inputs]
    for part in text.split(";"):
        name, equals, sides = part.rpartition("=")
        name = name.strip() if equals else names[0]
        fits = all(side.strip().isdecimal() and int(side) > 0 for side in sides.split(","))
        if not fits or name not in names or (not equals and len(names) > 1):
            raise InputError(
                f"--shape {text!r} cannot be read; expected 1,3,224,224 or name=1,3,224,224 with "
                f"a name of {', '.join(names)}"
            )
        shapes[name] = [int(side) for side in sides.split(",")]
    return shapes


def _save_trace(path: FilePath, card: Card | None) -> None:
    if card is None:
        raise InputError("--trace shows a simulated run; --ingest none is arithmetic: use pcie")
    card.trace.save(path)


def _profile(card: str, clock_mhz: float | None, engines: int | None) -> Profile:
    profile = load_profile(card)
    if clock_mhz is not None and not 1 <= clock_mhz <= 5000:
        raise InputError(f"--clock-mhz is {clock_mhz}; expected 1 to 5000")
    if engines is not None and not 1 <= engines <= 64:
        raise InputError(f"--engines is {engines}; expected 1 to 64")
    changes: dict[str, float] = {}
    if clock_mhz is not None:
        changes["engine__clock"] = clock_mhz * 1e6
    if engines is not None:
        changes["engine__count"] = engines
    return profile.with_values(**changes)


def takes_dense(profile: Profile) -> bool:
    """Whether the card's engine runs matrix products beside convolutions."""
    return "engine.dense" not in profile or bool(profile.value("engine.dense"))


def _compare(
    model: accel.Model,
    shapes: dict[str, list[int]] | None,
    job: Job,
    profile: Profile,
    threads: int,
) -> list[Path]:
    if set(weight_inputs(model.graph().graph)):
        raise ModelError(
            f"model {model.name!r} has inputs for weights; --compare runs it on this machine and "
            f"needs the weights in the file"
        )
    quantized = model if model.is_quantized else model.quantize()
    program = accel.device("cpu").compile(quantized, 1, threads=1, shapes=shapes)
    images = {spec.name: np.zeros(_fixed(spec), spec.dtype) for spec in program.inputs}
    compute = _seconds(lambda: program.run(images))
    decode_s = _decode_seconds(program.inputs[0].shape)
    return compare_job(job.layers, profile, job.input_bytes, decode_s, compute, threads)


def _fixed(spec: TensorSpec) -> tuple[int, ...]:
    known = tuple(side for side in spec.shape if side is not None)
    if len(known) < len(spec.shape):
        raise ModelError(f"input {spec.name!r} is {spec.shape}; --compare needs known sizes")
    return known


def _decode_seconds(shape: tuple[int | None, ...]) -> float:
    """Seconds to decode a photo and scale it to the model's input; 0 where that is no image."""
    sides = shape[1:3] if shape[-1] in (1, 3) else shape[2:4]
    if len(shape) != 4 or sides[0] is None or sides[1] is None:
        return 0.0
    rows, columns = np.mgrid[: PHOTO[0], : PHOTO[1]]
    photo = np.stack([rows, columns, rows + columns], axis=-1) % 256
    data = encode_jpeg(photo.astype(np.uint8))
    scale = ImageChain(resize=(sides[0], sides[1]))
    return _seconds(lambda: scale(decode(data)))


def _seconds(work: Callable[[], Any]) -> float:
    """Median of some runs, after one that is not timed."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _print(title: str, found: Estimate, paths: list[Path]) -> None:
    console = out()
    low, high = found.error_band
    console.print(f"[bold]{title}[/]: {found.fps:,.1f} images/s ({low:,.1f} to {high:,.1f})")
    if found.host_operators:
        names = ", ".join(f"{count} x {name}" for name, count in found.host_operators.items())
        console.print(f"on the host, {found.host_ms:.3f} ms an image: {names}", markup=False)
    latency = ", ".join(f"{name} {ms:.3f} ms" for name, ms in found.latency_ms.items())
    console.print(f"latency {latency}; {found.joules_per_image * 1e3:.1f} mJ an image")
    shares = table(["component", "busy"], right=["busy"])
    for name, share in sorted(found.utilisation.items(), key=lambda item: -item[1]):
        mark = " (bottleneck)" if name == found.bottleneck else ""
        shares.add_row(name + mark, f"{share:.1%}")
    console.print(shares)
    if paths:
        columns = ["path", "images/s", "limited by", "decode"]
        rows = table(columns, right=["images/s", "decode"])
        for path in paths:
            rate = f"{path.images_per_s:,.1f}"
            rows.add_row(path.name, rate, path.bottleneck, f"{path.decode_share:.0%}")
        console.print(rows)
