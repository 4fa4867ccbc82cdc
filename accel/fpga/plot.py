"""A roofline of a network's layers and the utilisation of a card, as PNG or SVG.

Needs matplotlib: pip install lwaccel[plot].
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accel.errors import DeviceError, InputError
from accel.fpga.engine import EngineSpec
from accel.fpga.estimate import Estimate
from accel.fpga.network import Layer
from accel.fpga.profile import Profile
from accel.fpga.report import roofline

ENDINGS = (".png", ".svg", ".pdf")
COLOURS = {"compute": "#1f6f8b", "memory": "#c9a227", "overhead": "#b5523b"}


def save_plot(
    path: str | Path, title: str, layers: Sequence[Layer], profile: Profile, found: Estimate
) -> None:
    """Draw both pictures side by side into one file.

    Raises
    ------
    InputError
        The ending is none of .png, .svg, .pdf.
    DeviceError
        matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise InputError(f"cannot draw {str(path)!r}; expected an ending of {', '.join(ENDINGS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise DeviceError("pictures need matplotlib; run: pip install 'lwaccel[plot]'")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _roofline(left, layers, profile)
    _utilisation(right, found)
    figure.suptitle(f"{title} (simulated)", fontsize=11)
    # Nothing of the moment in the file: the same run gives the same picture.
    metadata = {"Date": None} if Path(path).suffix.lower() == ".svg" else {}
    figure.savefig(path, dpi=130, metadata=metadata)


def _roofline(axes: Any, layers: Sequence[Layer], profile: Profile) -> None:
    spec = EngineSpec.from_profile(profile)
    points = roofline(layers, profile)
    peak, bandwidth = 2 * spec.peak_macs * spec.clock_hz, min(spec.bandwidth, spec.port_bandwidth)
    low = min(0.5 * peak / bandwidth, *(p.ops_per_byte for p in points)) / 2
    high = max(2 * peak / bandwidth, *(p.ops_per_byte for p in points)) * 2
    ridge = peak / bandwidth
    axes.plot([low, ridge, high], [low * bandwidth / 1e9, peak / 1e9, peak / 1e9], color="black",
              linewidth=1)  # fmt: skip
    for bound, colour in COLOURS.items():
        own = [p for p in points if p.bound == bound]
        axes.scatter([p.ops_per_byte for p in own], [p.ops_per_s / 1e9 for p in own], s=14,
                     color=colour, label=f"{bound} bound: {len(own)}", alpha=0.8)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations a byte of card memory")
    axes.set_ylabel("GOP/s of one engine")
    axes.set_title(f"layers under one engine's roof: {peak / 1e9:,.0f} GOP/s, "
                   f"{bandwidth / 1e9:.1f} GB/s", fontsize=9)  # fmt: skip
    axes.legend(fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def _utilisation(axes: Any, found: Estimate) -> None:
    shares = sorted(found.utilisation.items(), key=lambda item: item[1])
    names = [f"{name} *" if name == found.bottleneck else name for name, _ in shares]
    bars = axes.barh(names, [100 * share for _, share in shares], color="#1f6f8b")
    axes.bar_label(bars, [f"{share:.1%}" for _, share in shares], padding=3, fontsize=8)
    axes.set_xlim(0, 112)
    axes.set_xlabel("busy, % of the time (* bottleneck)")
    axes.set_title(f"{found.fps:,.1f} images/s, p99 {found.latency_ms['p99']:.2f} ms, "
                   f"{found.joules_per_image * 1e3:.1f} mJ an image", fontsize=9)  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
