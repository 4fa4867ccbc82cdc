"""Whole networks against other engines at their best: interleaved runs, medians, one table.

    python bench/networks.py                          # every network, batch 1, 1 and 2 threads
    python bench/networks.py --only resnet50,squeeze --batches 1,8 --json networks.json
    python bench/networks.py --only resnet20 --layers # where our time goes, node by node

Every engine takes the same float32 input on the same number of threads. ONNX Runtime and OpenVINO
run the fp32 network and its static int8 form, whose ranges were measured on images; ours runs
int8 with local windows at the default setting, and needs none. The bound is what the dot
instruction alone would need for the multiplications of direct sums. In each round every engine runs
in turn for a while, so that noise meets all alike; the speed-up is the median over the rounds of
the faster int8 engine's time over ours.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from encoders import ENCODERS
from topologies import TOPOLOGIES

import accel
from accel import kernels
from accel.peak import dot_peak

MODELS = Path(__file__).resolve().parents[2] / "shared" / "data" / "models"
TRAINED = (
    "resnet20_cifar10",
    "resnet56_cifar10",
    "vww_mobilenet_v1_0.25_96",
    "st_ssd_mobilenet_v1_0.25_256",
    "version-RFB-320",
    "yolo-fastest-1.1",
)
PEERS = ("onnxruntime", "openvino")
COLUMNS = ("cpu", *(f"{peer} {form}" for form in ("int8", "fp32") for peer in PEERS))
SAMPLES = 4

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Result:
    """One network at one batch and number of threads.

    Attributes
    ----------
    bound_ms : what the dot instruction alone needs for the multiplications of direct sums.
    ms : median time of a batch by engine.
    speedup : of ours over the faster int8 peer; over_fp32 : over ONNX Runtime's fp32.
    """

    network: str
    batch: int
    threads: int
    macs: int
    bound_ms: float
    ms: dict[str, float]
    speedup: float
    over_fp32: float


def networks(only: str) -> dict[str, Callable[[], accel.Model]]:
    """Makers by name: topologies with seeded weights, and trained models where they are."""
    found = TOPOLOGIES | ENCODERS
    for name in TRAINED:
        for path in MODELS.glob(f"{name}.onnx*"):
            found[name] = lambda path=path: accel.load(path)
    wanted = [part for part in only.split(",") if part]
    return {n: f for n, f in found.items() if not wanted or any(p in n for p in wanted)}


def calibrated(model: accel.Model) -> accel.Model:
    """The static int8 form, whose ranges were measured on noise."""
    spec = model.inputs[0]
    rng = np.random.default_rng(0)
    shape = tuple(d or 1 for d in spec.shape[1:])
    samples = rng.standard_normal((SAMPLES, *shape)).astype(spec.dtype)
    if spec.shape[0] is not None:
        samples = samples[: spec.shape[0]]
    return model.calibrate(samples)


def programs(model: accel.Model, batch: int, threads: int) -> dict[str, accel.Program]:
    """Every engine's program, ours first."""
    forms = {"int8": calibrated(model), "fp32": model}
    made = {"cpu": accel.device("cpu").compile(model.quantize(), batch, threads)}
    for form, peer in ((f, p) for f in forms for p in PEERS):
        made[f"{peer} {form}"] = accel.device(peer).compile(forms[form], batch, threads)
    return made


def compare(name: str, model: accel.Model, batch: int, threads: int, rounds: int) -> Result:
    """Time all engines in turn."""
    made = programs(model, batch, threads)
    x = made["cpu"].noise()
    times: dict[str, list[float]] = {engine: [] for engine in made}
    for program in made.values():
        program._execute(x)
    for _ in range(rounds):
        for engine, program in made.items():
            times[engine].append(_median_of_a_while(program, x))
    macs = sum(layer.macs for layer in model.workload(batch))
    return Result(
        name,
        batch,
        threads,
        macs,
        1e3 * macs / (dot_peak(kernels.isa()) * threads),
        {engine: 1e3 * float(np.median(t)) for engine, t in times.items()},
        _ratio([min(p) for p in zip(*(times[f"{e} int8"] for e in PEERS), strict=True)], times),
        _ratio(times["onnxruntime fp32"], times),
    )


def _median_of_a_while(program: accel.Program, x: dict[str, Array], seconds: float = 0.15) -> float:
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        start = time.perf_counter()
        program._execute(x)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _ratio(peer: list[float], times: dict[str, list[float]]) -> float:
    return float(np.median(np.array(peer) / np.array(times["cpu"])))


def table(results: list[Result]) -> str:
    """Markdown: ms of every engine, and the speed-ups."""
    head = ["network", "batch", "threads", *COLUMNS, "bound", "int8 speed-up", "over fp32"]
    lines = [head, ["---"] * len(head)]
    for r in results:
        cells = [f"{r.ms[c]:.2f}" for c in COLUMNS]
        ratios = [f"{r.bound_ms:.2f}", f"**{r.speedup:.2f}**", f"{r.over_fp32:.1f}"]
        lines.append([r.network, str(r.batch), str(r.threads), *cells, *ratios])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(results: list[Result]) -> str:
    """Geometric means over the trained networks, by batch and threads."""
    lines = []
    for key in dict.fromkeys((r.batch, r.threads) for r in results):
        ratios = [
            r.speedup for r in results if (r.batch, r.threads) == key and r.network in TRAINED
        ]
        if ratios:
            mean = float(np.exp(np.mean(np.log(ratios))))
            lines.append(
                f"{len(ratios)} trained networks, batch {key[0]}, {key[1]} threads: geometric mean "
                f"of the int8 speed-ups {mean:.2f}"
            )
    return "\n".join(lines)


def caption() -> str:
    """Machine, date and versions."""
    engines = ", ".join(f"{peer} {version(peer)}" for peer in PEERS)
    peak = 2e-9 * dot_peak(kernels.isa())
    return (
        f"{platform.processor() or platform.machine()}, {kernels.isa()}, dot peak {peak:.0f} GOP/s "
        f"a core; {time.strftime('%Y-%m-%d')}; lwaccel {accel.__version__}, {engines}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="parts of names, comma-separated")
    parser.add_argument("--batches", default="1", help="batch sizes, comma-separated")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, comma-separated")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every engine")
    parser.add_argument("--layers", action="store_true", help="also show our time node by node")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    results = []
    for name, make in networks(options.only).items():
        model = make()
        for batch in map(int, options.batches.split(",")):
            for threads in map(int, options.threads.split(",")):
                results.append(compare(name, model, batch, threads, options.rounds))
                print(table(results[-1:]).splitlines()[-1], flush=True)
                if options.layers:
                    program = accel.device("cpu").compile(model.quantize(), batch, threads)
                    print(program.profile(repeats=50))
    print(f"\n{caption()}\n\n{table(results)}\n\n{summary(results)}")
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=1))


if __name__ == "__main__":
    main()
