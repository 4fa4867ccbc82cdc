"""A network layer by layer: our times beside those that the profilers of ONNX Runtime and OpenVINO
give for the static int8 form, on the same threads, in turns. The largest loss comes first.

    python bench/layers.py resnet50
    python bench/layers.py mobilenet_v2 --threads 2 --rounds 30 --order network

An engine's event belongs to the layer whose name its own begins with. What it does between layers
(quantizing, changes of layout, residuals that it does not fuse) counts for the layer before, and
what it does before the first for the first. The sums are those of the rows, without dispatch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import openvino as ov
from networks import calibrated, caption, networks

import accel
from accel import graph as g
from accel.passes.drop_inner_pairs import drop_inner_pairs
from accel.passes.unfold_blocks import unfold_blocks

Array = np.ndarray[Any, Any]
Event = tuple[str, float]  # name, microseconds
KERNEL = "_kernel_time"  # ends the name of a node in ONNX Runtime's profile


def owner_of(event: str, nodes: Iterable[str]) -> str | None:
    """The longest name of a node with which that of an event begins, up to a separator."""
    fits = [n for n in nodes if event == n or event.startswith((f"{n}_token", f"{n}/", f"{n}_"))]
    return max(fits, key=len, default=None)


def by_node(events: Iterable[Event], nodes: list[str]) -> dict[str, float]:
    """Times of events, added up for each node."""
    found = dict.fromkeys(nodes, 0.0)
    current = nodes[0]
    for name, microseconds in events:
        current = owner_of(name, nodes) or current
        found[current] += microseconds
    return found


def onnxruntime_events(data: bytes, x: dict[str, Array], threads: int, runs: int) -> list[Event]:
    """Median time of every node, in the order of execution."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, x)
        records = json.loads(Path(session.end_profiling()).read_text())
    nodes = [r for r in records if r["cat"] == "Node" and r["name"].endswith(KERNEL)]
    names = [r["name"].removesuffix(KERNEL) for r in nodes[: len(nodes) // runs]]
    times = np.array([r["dur"] for r in nodes], float).reshape(runs, len(names))
    return list(zip(names, np.median(times, axis=0).tolist(), strict=True))


def openvino_program(model: accel.Model, batch: int, threads: int) -> Any:
    """An infer request that keeps times."""
    graph = drop_inner_pairs(unfold_blocks(model.with_shapes(batch, {})))
    config = {
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERF_COUNT": True,
    }
    core = ov.Core()
    return core.compile_model(
        core.read_model(g.to_bytes(graph)), "CPU", config
    ).create_infer_request()


def openvino_events(request: Any, x: dict[str, Array], runs: int) -> list[Event]:
    """Median time of every executed node, in the order of execution."""
    times: dict[str, list[float]] = {}
    for _ in range(runs):
        request.infer(x)
        for info in request.profiling_info:
            if info.status == info.Status.EXECUTED:
                seconds = info.real_time.total_seconds()
                times.setdefault(info.node_name, []).append(1e6 * seconds)
    return [(name, float(np.median(t))) for name, t in times.items()]


def measure(model: accel.Model, batch: int, threads: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds of ours, ONNX Runtime and OpenVINO for each of our nodes; medians of rounds."""
    program = accel.device("cpu").compile(model.quantize(), batch, threads)
    static = calibrated(model)
    x = program.noise()
    request = openvino_program(static, batch, threads)
    data = static.to_bytes()
    rows = {r.node: r.op for r in program.explain().rows}
    nodes = list(rows)
    turns: list[Callable[[], dict[str, float]]] = [
        lambda: {r.node: 1e6 * (r.seconds or 0.0) for r in program.profile(x, repeats=5).rows},
        lambda: by_node(onnxruntime_events(data, x, threads, runs=5), nodes),
        lambda: by_node(openvino_events(request, x, runs=5), nodes),
    ]
    found = [[turn() for turn in turns] for _ in range(rounds)]
    return {
        f"{node} {rows[node]}": [
            float(np.median([each[i][node] for each in found])) for i in range(len(turns))
        ]
        for node in nodes
    }


def table(times: dict[str, list[float]]) -> str:
    """Markdown, and the sums; the loss is over the faster engine."""
    lines = ["| node | cpu | onnxruntime int8 | openvino int8 | loss |", "|---|---|---|---|---|"]
    sums = np.sum(list(times.values()), axis=0).tolist()
    for name, row in [*times.items(), ("sum", sums)]:
        lines.append(f"| {name} | {row[0]:.1f} | {row[1]:.1f} | {row[2]:.1f} | {loss(row):.1f} |")
    return "\n".join(lines)


def loss(row: list[float]) -> float:
    """Microseconds that the faster engine is ahead."""
    return row[0] - min(row[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", help="a part of its name; see networks.py")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="turns of every engine")
    parser.add_argument("--order", choices=["loss", "network"], default="loss")
    options = parser.parse_args()
    for name, make in networks(options.network).items():
        times = measure(make(), options.batch, options.threads, options.rounds)
        if options.order == "loss":
            times = dict(sorted(times.items(), key=lambda item: -loss(item[1])))
        print(f"\n{name}, batch {options.batch}, {options.threads} thread(s), us\n{table(times)}")
    print(f"\n{caption()}")


if __name__ == "__main__":
    main()
