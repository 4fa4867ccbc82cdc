"""`accel detect`: boxes as a table, as JSON and drawn; mistakes on one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_networks import YOLO, yolo_network
from typer.testing import CliRunner

from accel.cli import app
from accel.detection.description import to_json
from accel.detection.draw import draw_boxes
from accel.errors import AccelError
from accel.images import decode, encode_jpeg


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A network, its description, three images of which one is broken."""
    yolo_network(rng).save(tmp_path / "net.onnx")
    (tmp_path / "net.json").write_text(to_json(YOLO))
    photos = tmp_path / "photos" / "inner"
    photos.mkdir(parents=True)
    for name, size in (("a", (50, 70)), ("b", (64, 64))):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        (photos / f"{name}.jpg").write_bytes(encode_jpeg(pixels))
    (photos / "c.jpg").write_bytes(b"no image")
    return tmp_path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["detect", *map(str, arguments)])


def test_boxes_of_a_folder_are_printed_and_drawn(folder: Path) -> None:
    source = (folder / "net.onnx", folder / "photos", "--spec", folder / "net.json")
    done = run(*source, "--json", "--save", folder / "drawn")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["images"]
    assert [row["image"] for row in rows] == ["inner/a.jpg", "inner/b.jpg"]
    assert all(0 <= v <= 70 for row in rows for box in row["boxes"] for v in box["box"])
    assert {box["name"] for row in rows for box in row["boxes"]} <= {"cat", "dog", "2"}
    drawn = [decode(f.read_bytes()).shape for f in sorted((folder / "drawn").iterdir())]
    assert drawn == [(50, 70, 3), (64, 64, 3)]
    text = run(*source, "--limit", 1, "--backend", "onnxruntime", "--score", 0.9)
    assert text.exit_code == 0 and "1 images on onnxruntime" in text.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.onnx", "photos"], "--spec"),
        (["net.onnx", "photos", "--spec", "no-such"], "known detector"),
        (["net.onnx", "nowhere", "--spec", "net.json"], "no folder"),
        (["net.onnx", "empty", "--spec", "net.json"], "no image"),
        (["net.onnx", "photos", "--spec", "net.json", "--score", "7"], "score"),
        (["net.onnx", "photos", "--spec", "net.json", "--backend", "gpu"], "gpu"),
        (["net.onnx", "photos", "--spec", "net.json", "--save", "net.json"], "cannot make"),
    ],
)
def test_mistakes_are_typed(
    folder: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    done = run(*arguments)
    assert isinstance(done.exception, AccelError)
    assert message in str(done.exception)


def test_drawing_marks_the_border_of_each_box_only() -> None:
    image = np.full((80, 100, 3), 128, np.uint8)
    boxes = np.array([[60, 40, 90, 70]], np.float32)
    drawn = draw_boxes(image, boxes, [""], np.array([3]))
    changed = np.argwhere((drawn != image).any(axis=2))
    assert (image == 128).all()
    assert changed.min(axis=0).tolist() == [40, 60] and changed.max(axis=0).tolist() == [70, 90]
    assert (drawn[45:65, 65:85] == 128).all()
    assert not np.array_equal(drawn, draw_boxes(image, boxes, [""], np.array([4])))
