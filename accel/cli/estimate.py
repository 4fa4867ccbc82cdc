"""`accel estimate`: what a simulated FPGA card would give a model, from its shapes alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import onnx_ir as ir
import typer
from rich.markup import escape

import accel
from accel.cli.options import Json, Model, Threads
from accel.cli.output import out, print_json, table
from accel.errors import InputError, ModelError
from accel.fpga.estimate import INGESTS, Estimate, Job, Load
from accel.fpga.estimate import estimate as estimate_card
from accel.fpga.profile import Profile, load_profile
from accel.fpga.report import Path, compare_job
from accel.graph import data_inputs
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
    compare: Compare = False,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Estimate a model on a simulated FPGA card. Only shapes matter: weights may be absent."""
    way = next((known for known in INGESTS if known == ingest), None)
    if way is None:
        raise InputError(f"--ingest {ingest!r} is not known; expected {', '.join(INGESTS)}")
    profile = _profile(card, clock_mhz, engines)
    model = accel.load(path)
    job = job_of(model)
    found = estimate_card(job, profile, way, Load(batch, queues, streams))
    paths = _compare(model, job, profile, threads) if compare else []
    if as_json:
        shown = {"model": model.name, "card": card, "ingest": way, **asdict(found)}
        print_json(shown | ({"compare": [asdict(p) for p in paths]} if compare else {}))
        return
    _print(f"{escape(model.name)} on {card}, ingest {way}", found, paths)


def job_of(model: accel.Model) -> Job:
    """Shapes and bytes of one image; pixels and results cross the link as bytes, one each.

    Raises ModelError where no product has a known shape.
    """
    layers = model.workload(1)
    if not layers:
        raise ModelError(
            f"model {model.name!r} has no Conv, Gemm or MatMul of known shape; expected at least "
            f"one: fix its height and width in the file"
        )
    sized = model.with_shapes(1).graph
    weights = weight_inputs(sized)
    images = [value for value in data_inputs(sized) if value not in weights]
    return Job(model.name, layers, _bytes(images), _bytes(sized.outputs))


def weight_inputs(graph: ir.Graph) -> list[ir.Value]:
    """Inputs that products take as weights: a file stripped of its weights has such."""
    operands = {v for n in graph if n.op_type in ("Conv", "Gemm") for v in n.inputs[1:]}
    return [value for value in data_inputs(graph) if value in operands]


def _bytes(values: Iterable[ir.Value]) -> int:
    shapes = [value.shape for value in values if value.shape is not None]
    return max(1, sum(math.prod(d for d in shape if isinstance(d, int)) for shape in shapes))


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


def _compare(model: accel.Model, job: Job, profile: Profile, threads: int) -> list[Path]:
    if set(weight_inputs(model.graph().graph)):
        raise ModelError(
            f"model {model.name!r} has inputs for weights; --compare runs it on this machine and "
            f"needs the weights in the file"
        )
    quantized = model if model.is_quantized else model.quantize()
    program = accel.device("cpu").compile(quantized, batch_size=1)
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
