"""The labelled data beside the repository, as models take them; each is read once."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image

from accel.detection.metrics import Truth
from accel.images import ImageChain, decode
from accel.samples import load_input

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

Array = np.ndarray[Any, Any]


@cache
def cifar10(name: str) -> tuple[Array, Array]:
    """Images (N, 32, 32, 3) uint8 and labels of one of the archives."""
    with np.load(DATA / "cifar10" / f"cifar10_{name}.npz") as file:
        if "image" in file:
            return file["image"], file["label"].astype(np.int64)
        ends, data = file["offset"], file["jpeg"]
        images = [decode(data[a:b].tobytes()) for a, b in pairwise(ends)]
        return np.stack(images), file["label"].astype(np.int64)


@cache
def enlarged(name: str) -> tuple[Array, Array]:
    """CIFAR-10 images brought to 224 x 224."""
    images, labels = cifar10(name)
    size, how = (224, 224), cv2.INTER_LINEAR
    return np.stack([cv2.resize(i, size, interpolation=how) for i in images]), labels


@cache
def imagenet(side: int) -> tuple[Array, Array]:
    """500 photographs, the square in the middle."""
    folder = DATA / "images"
    chain, labels = ImageChain(crop=side), folder / "imagenet500_labels.csv"
    found = load_input(folder / "imagenet500", labels=labels, chain=chain)
    assert found.labels is not None
    return found.x, found.labels


@cache
def photographs() -> tuple[list[Array], list[Truth]]:
    """128 photographs of any size with their boxes."""
    folder = DATA / "images" / "coco128"
    images, truth = [], []
    for path in sorted((folder / "images").glob("*.jpg")):
        image = decode(path.read_bytes())
        height, width = image.shape[:2]
        label = folder / "labels" / f"{path.stem}.txt"
        rows = np.loadtxt(label, ndmin=2) if label.exists() and label.stat().st_size else []
        parts = np.array(rows, np.float64).reshape(-1, 5)
        centre, half = parts[:, 1:3], parts[:, 3:5] / 2
        corners = np.concatenate([centre - half, centre + half], axis=1)
        images.append(image)
        truth.append(Truth(corners * [width, height, width, height], parts[:, 0].astype(np.int64)))
    return images, truth


@cache
def persons() -> tuple[Array, Array]:
    """The photographs at 96 x 96; 1 where a person covers at least 0.5 % of the image."""
    images, truth = photographs()
    labels = []
    for image, (boxes, classes) in zip(images, truth, strict=True):
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / (image.shape[0] * image.shape[1])
        labels.append(bool((area[classes == 0] >= 0.005).any()))
    small = [PIL.Image.fromarray(i).resize((96, 96), PIL.Image.Resampling.BILINEAR) for i in images]
    return np.stack([np.asarray(image) for image in small]), np.array(labels, np.int64)


@cache
def reviews() -> tuple[Array, Array]:
    """Film reviews as 256 word numbers, and 1 for praise."""
    vocabulary = DATA / "text" / "text_classification_vocab.txt"
    words = dict(line.split() for line in vocabulary.read_text(encoding="utf-8").splitlines())
    rows, labels = [], []
    for line in (DATA / "text" / "sst2_test_half.tsv").read_text(encoding="utf-8").splitlines():
        text, label = line.rsplit("\t", 1)
        joined = re.sub(r" (n't|'\w+)", r"\1", text.lower())
        numbers = [1, *(int(words.get(w, 2)) for w in re.split(r"[^\w']+", joined) if w)][:256]
        rows.append(numbers + [0] * (256 - len(numbers)))
        labels.append(int(label))
    return np.array(rows, np.float32), np.array(labels, np.int64)
