"""The frame of the benchmarks of layers: which layers, engines and modes a run measures, and how.

A module that gives `bench_layer` a name of its own names its LAYERS, and MODES if it needs several.
"""

from __future__ import annotations

from typing import Any

import pytest
from engines import Run, available, bind, can_run
from interleave import measure
from layer import Layer
from pytest_benchmark.fixture import BenchmarkFixture
from shapes import MODES

LINES = pytest.StashKey[list[str]]()


def parametrize(metafunc: pytest.Metafunc) -> None:
    """One benchmark for each group and layer of the module's LAYERS and each number of threads, so
    that -k picks by either."""
    groups: dict[str, list[Layer]] = metafunc.module.LAYERS
    threads = [int(t) for t in str(metafunc.config.getoption("--threads") or "1").split(",")]
    found = [(g, layer, t) for g, layers in groups.items() for layer in layers for t in threads]
    ids = [f"{g}-{layer.name}-{t}" for g, layer, t in found]
    metafunc.parametrize(("group", "layer", "threads"), found, ids=ids)


def bench_layer(
    benchmark: BenchmarkFixture,
    pytestconfig: pytest.Config,
    request: pytest.FixtureRequest,
    group: str,
    layer: Layer,
    threads: int,
) -> None:
    """Checks every engine once, then times them in turn: ours in the module's MODES, if it has
    them, or the default one; the others in their one. A depthwise layer knows no other mode."""
    every = pytestconfig.getoption("--all-modes") and layer.groups == 1
    modes = getattr(request.module, "MODES", layer.default_modes)
    modes = [*modes, *(mode for mode in MODES if every and mode not in modes)]
    runs, mode_of = bind_all(layer, threads, modes, pytestconfig.getoption("--backends"))
    benchmark.group = f"{group}, {threads} threads"
    measure(benchmark, layer, runs, threads, mode_of)
    benchmark.extra_info["network"] = group
    pytestconfig.stash.setdefault(LINES, []).append(line(group, benchmark.extra_info))


def bind_all(
    layer: Layer, threads: int, modes: list[str], wanted: str | None
) -> tuple[dict[str, Run], dict[str, str]]:
    """What to time, and its mode, by engine and, of ours, mode: results are right."""
    runs: dict[str, Run] = {}
    mode_of: dict[str, str] = {}
    for engine in [e for e in available() if not wanted or e in wanted.split(",")]:
        ours = engine in ("cpu", "mkl")
        for mode in modes if engine == "cpu" else modes[:1]:
            variant = layer.with_mode(mode)
            name = f"{engine} {variant.mode}" if ours else engine
            # a window as long as all channels is met twice
            if name in runs or not can_run(engine, layer, threads):
                continue
            runs[name], check = bind(engine, variant, threads)
            check()
            mode_of[name] = variant.mode if ours else "C"
    if not runs:
        pytest.skip(f"none of the engines {wanted} measures {layer.name}")
    return runs, mode_of


def line(group: str, info: dict[str, Any]) -> str:
    """What one benchmark found, for the end of the run."""
    parts = [
        f"{name} {e['gop_per_s']:.0f} ({e['share_of_peak']:.0%})"
        for name, e in info["engines"].items()
    ]
    return f"{group} {info['layer']}, {info['threads']} thread(s): " + ", ".join(parts)
