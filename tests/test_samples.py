"""Samples from archives and folders, with labels, and what is said when they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from accel.errors import InputError
from accel.images import ImageChain
from accel.samples import load_input, read_labels


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Three PNG images of different sizes, one broken file, and labels beside them."""
    images = tmp_path / "images"
    images.mkdir()
    for name, size in (("a", (20, 30)), ("b", (25, 20)), ("c", (40, 40))):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        (images / f"{name}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    (images / "d.png").write_bytes(b"broken")
    (tmp_path / "labels.csv").write_text("file,class_index\na.png,3\nb.png,1\nc.png,4\n")
    return images


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_load_folder_crops_labels_and_reports_the_broken_file(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    samples = load_input(
        folder,
        labels=folder.parent / "labels.csv",
        chain=ImageChain(crop=16),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert samples.x.shape == (3, 16, 16, 3) and samples.x.dtype == np.uint8
    assert samples.names == ("a.png", "b.png", "c.png")
    assert samples.labels is not None and samples.labels.tolist() == [3, 1, 4]
    assert samples.errors["d.png"].code == "DECODE"
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_load_folder_of_different_sizes_asks_for_a_resize(folder: Path) -> None:
    with pytest.raises(InputError, match=r"3 different sizes.*give resize"):
        load_input(folder)


def test_load_folder_limit_stops_early(folder: Path) -> None:
    assert load_input(folder, chain=ImageChain(crop=8), limit=2).names == ("a.png", "b.png")


def test_load_folder_missing_label_names_the_file(folder: Path) -> None:
    csv = folder.parent / "few.csv"
    csv.write_text("file,label\na.png,1\n")
    with pytest.raises(InputError, match=r"no label for b.png \(2 missing\)"):
        load_input(folder, labels=csv, chain=ImageChain(crop=8))


def test_load_folder_without_images_raises_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no usable image"):
        load_input(tmp_path)


@pytest.mark.parametrize(("key", "label"), [("image", "label"), ("x", "y")])
def test_load_archive_takes_both_spellings(tmp_path: Path, key: str, label: str) -> None:
    images = np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3)
    path = save(tmp_path / "a.npz", **{key: images, label: np.arange(5)})
    samples = load_input(path, limit=3)
    np.testing.assert_array_equal(samples.x, images[:3])
    assert samples.labels is not None and samples.labels.tolist() == [0, 1, 2]
    assert len(samples) == 3


def test_load_archive_applies_the_chain(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    samples = load_input(save(tmp_path / "a.npz", x=images), chain=ImageChain(crop=4, order="bgr"))
    np.testing.assert_array_equal(samples.x, images[:, 2:6, 2:6, ::-1])
    assert samples.labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros(3)}, "holds \\['pixels'\\]"),
        ({"x": np.zeros(())}, "at least one row"),
        ({"x": np.zeros((0, 4))}, "at least one row"),
        ({"x": np.zeros((2, 4)), "label": np.zeros(3, int)}, "expected \\(2,\\)"),
        ({"x": np.zeros((2, 4)), "label": np.zeros(2)}, "whole numbers"),
        ({"x": np.array([{}], object)}, "not a readable"),
    ],
)
def test_load_archive_of_wrong_content_says_what_is_wrong(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_input(save(tmp_path / "a.npz", **arrays))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_load_archive_truncated_raises_input_error(tmp_path: Path, share: float) -> None:
    data = save(tmp_path / "a.npz", x=np.zeros((50, 50))).read_bytes()
    (tmp_path / "b.npz").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="not a readable"):
        load_input(tmp_path / "b.npz")


def test_load_archive_that_unpacks_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accel.samples.MAX_ARRAY_BYTES", 1000)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(10_000))
    with pytest.raises(InputError, match="more than 1000"):
        load_input(tmp_path / "a.npz")


@pytest.mark.parametrize("limit", [0, -3])
def test_load_limit_below_one_raises_input_error(tmp_path: Path, limit: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        load_input(tmp_path, limit=limit)


def test_load_missing_path_raises_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no input at"):
        load_input(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has columns"),
        ("picture,class_index\na,1\n", "has columns"),
        ("file,label\na.png,cat\n", "label 'cat' is not a whole number"),
        ("file,label\na.png\n", "label None is not a whole number"),
    ],
)
def test_read_labels_of_wrong_form_says_what_is_wrong(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_labels(path)
