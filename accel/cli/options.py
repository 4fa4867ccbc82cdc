"""Options that several commands share, and the text they are parsed from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Argument(help="Model file, fp32 or quantized.", metavar="MODEL")]
Input = Annotated[
    Path, typer.Option("--input", "-i", help=".npz with 'image' or 'x', or a folder of images.")
]
Labels = Annotated[
    Path | None, typer.Option(help="CSV with columns 'file' and 'class_index' or 'label'.")
]
Limit = Annotated[int | None, typer.Option(help="Use the first LIMIT rows only.", min=1)]
Resize = Annotated[
    str | None,
    typer.Option(help="Shorter side, or HEIGHTxWIDTH. A folder's default: the model's size."),
]
Crop = Annotated[int | None, typer.Option(help="Side of the square cut from the middle.", min=1)]
Order = Annotated[str, typer.Option(help="Channel order the model wants: rgb or bgr.")]
Mean = Annotated[
    str | None, typer.Option(help="Mean of (pixel/scale), one or per channel: .485,.456,.406")
]
Std = Annotated[str | None, typer.Option(help="Deviation to divide by, as for --mean.")]
Scale = Annotated[
    float | None, typer.Option(help="Pixels are divided by this first.", show_default="255")
]
Window = Annotated[
    int | None, typer.Option(help="Channels that share an activation scale, 1..512.")
]
WeightWindow = Annotated[
    int | None, typer.Option(help="Channels that share a weight scale, 1..512.")
]
BatchSize = Annotated[int, typer.Option(help="Rows computed at once.", min=1)]
Threads = Annotated[int, typer.Option(help="Worker threads.", min=1)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs, not a table.")]


def parse_floats(text: str | None, option: str) -> tuple[float, ...] | None:
    """Numbers with commas between them: ``.485,.456,.406``."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a number or numbers with commas between", param_hint=option
        ) from error


def parse_resize(text: str | None) -> int | tuple[int, int] | None:
    """A side, ``256``, or a height and a width, ``240x320``."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        message = f"{text!r} is neither a side (256) nor HEIGHTxWIDTH (240x320)"
        raise typer.BadParameter(message, param_hint="--resize")
    sizes = [int(part) for part in parts]
    return sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])


def parse_backends(text: str) -> list[str]:
    """Device names with commas between them, each once, in their order."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter("give at least one device", param_hint="--backends")
    return list(dict.fromkeys(names))
