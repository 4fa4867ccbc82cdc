"""`accel detect`: boxes on images."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import accel
from accel.cli.options import Json, Limit, Model, Threads
from accel.cli.output import out, print_json, progress, say, table
from accel.cli.prepare import for_device
from accel.detection.draw import draw_boxes
from accel.detection.known import known_detectors
from accel.detector import Detections, Detector
from accel.errors import ImageError, InputError
from accel.images import Image, decode, encode_jpeg, image_files

SHOWN = 20
Images = Annotated[Path, typer.Argument(help="An image file, or a folder of them.")]
Spec = Annotated[
    str | None,
    typer.Option(
        help=f"How to read the network: {', '.join(known_detectors())}, or a JSON file. "
        "Not needed for a model that carries it."
    ),
]
Backend = Annotated[str, typer.Option("--backend", "-b", help="Device to run on.")]
Score = Annotated[float | None, typer.Option(help="Least score of a box, 0..1.")]
Overlap = Annotated[
    float | None, typer.Option(help="Boxes of a class that overlap by more are one, 0..1.")
]
Save = Annotated[Path | None, typer.Option(help="Folder for copies with the boxes drawn.")]


def detect(
    path: Model,
    images: Images,
    spec: Spec = None,
    backend: Backend = "cpu",
    score: Score = None,
    overlap: Overlap = None,
    threads: Threads = 1,
    limit: Limit = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Find objects on images and print, or draw, their boxes."""
    device = accel.device(backend)
    files = _files(images, limit)
    if save is not None:
        _make_folder(save)
    model = accel.load(path)
    model = model if spec is None else model.as_detector(spec)
    if model.detector_spec is None:
        raise InputError(f"{path} does not say how its boxes are read; give --spec")
    model = for_device(model, backend)
    detector = Detector(device.compile(model, threads=threads), score, overlap)
    rows = []
    with progress(f"detecting on {detector.program.device.name}") as advance:
        for done, (name, image) in enumerate(_read(files), start=1):
            advance(done, len(files))
            found = detector.detect([image])[0]
            rows.append(_row(name, found))
            if save is not None:
                _draw(save / f"{name.replace('/', '_')}.jpg", image, found)
    if as_json:
        print_json({"device": detector.program.label, "images": rows})
        return
    _print(rows, detector.program.label, len(files) - len(rows))


def _files(images: Path, limit: int | None) -> dict[str, Path]:
    if images.is_file():
        return {images.name: images}
    found = {f.relative_to(images).as_posix(): f for f in image_files(images)[:limit]}
    if not found:
        raise InputError(f"no image in {images}")
    return found


def _read(files: dict[str, Path]) -> Iterator[tuple[str, Image]]:
    for name, file in files.items():
        try:
            yield name, decode(file.read_bytes())
        except (ImageError, OSError) as error:
            say(f"left out {name}: {error}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make folder {folder}: {error.strerror}") from error


def _draw(path: Path, image: Image, found: Detections) -> None:
    texts = [f"{n} {s:.2f}" for n, s in zip(found.names, found.scores, strict=True)]
    drawn = draw_boxes(image, found.boxes, texts, found.classes)
    try:
        path.write_bytes(encode_jpeg(drawn))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _row(name: str, found: Detections) -> dict[str, Any]:
    boxes = zip(found.names, found.scores.tolist(), found.boxes.tolist(), strict=True)
    return {"image": name, "boxes": [{"name": n, "score": s, "box": b} for n, s, b in boxes]}


def _print(rows: list[dict[str, Any]], device: str, missing: int) -> None:
    shown = table(["image", "name", "score", "x1", "y1", "x2", "y2"],
                  right=["score", "x1", "y1", "x2", "y2"])  # fmt: skip
    boxes = [(row["image"], box) for row in rows for box in row["boxes"]]
    for image, box in islice(boxes, SHOWN):
        corners = (f"{v:.0f}" for v in box["box"])
        shown.add_row(escape(image), escape(box["name"]), f"{box['score']:.2f}", *corners)
    console = out()
    console.print(shown)
    if len(boxes) > SHOWN:
        console.print(f"... and {len(boxes) - SHOWN} more; --json or --save give all")
    summary = f"{len(boxes)} boxes on {len(rows)} images on {device}"
    console.print(summary + (f"; {missing} files left out" if missing else ""))
