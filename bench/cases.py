"""Which layers, engines and modes one run of the benchmarks measures, and the measuring of one."""

from __future__ import annotations

from typing import Any

import pytest
from engines import available, bind, can_run
from interleave import measure
from layer import Layer

LINES = pytest.StashKey[list[str]]()


def parametrize(metafunc: pytest.Metafunc, groups: dict[str, list[Layer]]) -> None:
    """One benchmark for each group, layer and number of threads, so that -k picks by either."""
    threads = [int(t) for t in str(metafunc.config.getoption("--threads") or "1").split(",")]
    found = [(g, layer, t) for g, layers in groups.items() for layer in layers for t in threads]
    ids = [f"{g}-{layer.name}-{t}" for g, layer, t in found]
    metafunc.parametrize(("group", "layer", "threads"), found, ids=ids)


def measure_layer(
    benchmark: Any, config: pytest.Config, group: str, layer: Layer, threads: int, modes: list[str]
) -> None:
    """Checks every engine once, then times them in turn: ours in all modes, the others in one."""
    wanted = config.getoption("--backends")
    engines = [e for e in available() if not wanted or e in wanted.split(",")]
    runs, mode_of = {}, {}
    for engine in engines:
        ours = engine in ("cpu", "mkl")
        for mode in modes if engine == "cpu" else modes[:1]:
            variant = layer.with_mode(mode)
            if not can_run(engine, layer, threads):
                continue
            name = f"{engine} {variant.mode}" if ours else engine
            if name in runs:  # a window as long as all channels is met twice
                continue
            runs[name], check = bind(engine, variant, threads)
            check()
            mode_of[name] = variant.mode if ours else "C"
    if not runs:
        pytest.skip(f"none of the engines {wanted} measures {layer.name}")
    benchmark.group = f"{group}, {threads} threads"
    measure(benchmark, layer, runs, threads, mode_of)
    benchmark.extra_info["network"] = group
    config.stash.setdefault(LINES, []).append(line(group, benchmark.extra_info))


def line(group: str, info: dict[str, Any]) -> str:
    """What one benchmark found, for the end of the run."""
    parts = [
        f"{name} {e['gop_per_s']:.0f} ({e['share_of_peak']:.0%})"
        for name, e in info["engines"].items()
    ]
    return f"{group} {info['layer']}, {info['threads']} thread(s): " + ", ".join(parts)
