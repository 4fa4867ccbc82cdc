"""`accel quantize`: an fp32 model file to an int8 one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import accel
from accel.cli.options import Json, Model, WeightWindow, Window
from accel.cli.output import human_bytes, out, print_json, progress
from accel.passes.choose_windows import WHOLE_IMAGE

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Quantized file to write: .onnx, or .onnx.xz, which is smaller.",
        show_default="the name of MODEL with .int8.onnx.xz, here",
    ),
]


def quantize(
    path: Model,
    output: Output = None,
    window: Window = None,
    weight_window: WeightWindow = None,
    as_json: Json = False,
) -> None:
    """Quantize a model to int8 with local windows; no calibration data is needed."""
    model = accel.load(path)
    with progress("quantizing"):
        quantized = model.quantize(window=window, weight_window=weight_window)
    target = output or Path(f"{model.name}.int8.onnx.xz")
    quantized.save(target)
    before, after = len(model.to_bytes()), target.stat().st_size
    windows = sorted(set(quantized.windows.values()))
    if as_json:
        sizes = {"bytes_before": before, "bytes_after": after}
        print_json({"output": str(target), "windows": windows, **sizes})
        return
    sizes_text = f"{human_bytes(before)} to {human_bytes(after)}, {before / after:.1f} times less"
    out().print(f"wrote {target}: {sizes_text}", markup=False, soft_wrap=True)
    layers = f"{len(quantized.windows)} quantized layers"
    channels = ", ".join(str(w) for w in windows if w != WHOLE_IMAGE)
    images = "; input images have one scale" if WHOLE_IMAGE in windows else ""
    out().print(f"{layers}; activation windows of {channels} channels{images}")
