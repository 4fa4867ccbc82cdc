"""The layers of Caffe's SSD against plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import caffe_files as cf
import numpy as np
import pytest

import accel
from accel import graph as g
from accel.detection.metrics import agreement
from accel.detection.rows import RowsHead
from accel.detection.spec import DetectorSpec
from accel.host import open_session

Array = np.ndarray[Any, Any]
CLASSES, COUNT = 4, 30


def test_prior_boxes_follow_the_grid(tmp_path: Path) -> None:
    p = ("min_size: 30 max_size: 60 aspect_ratio: 2 flip: true clip: false variance: 0.1 "
         "variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.5")  # fmt: skip
    text = f"""layer {{ name: "p" type: "PriorBox" bottom: "x0" bottom: "x1" top: "y"
               prior_box_param {{ {p} }} }}
               layer {{ name: "s" type: "Silence" bottom: "x0" }}
               layer {{ name: "r" type: "ReLU" bottom: "x0" top: "z" }}"""
    model = cf.load(tmp_path, cf.net(text, (1, 8, 2, 3), (1, 3, 100, 150)))
    got = cf.run(model, np.zeros((1, 8, 2, 3), np.float32), np.zeros((1, 3, 100, 150), np.float32))
    expected = []
    for row in range(2):
        for column in range(3):
            x, y, root = (column + 0.5) * 50, (row + 0.5) * 50, np.sqrt(2)
            sides = [(30, 30), (np.sqrt(1800),) * 2, (30 * root, 30 / root), (30 / root, 30 * root)]
            for w, h in sides:
                corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                expected += [v / s for v, s in zip(corners, [150, 100] * 2, strict=True)]
    assert got["y"].shape == (1, 2, 96)
    np.testing.assert_allclose(got["y"][0, 0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["y"][0, 1], np.tile([0.1, 0.1, 0.2, 0.2], 24), rtol=1e-6)


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
@pytest.mark.parametrize("shared_location", [True, False])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("options", ["", "keep_top_k: 7", "nms_param { top_k: 5 }"])
def test_detection_output_equals_loops(
    tmp_path: Path, rng: np.random.Generator, code: str, shared_location: bool, images: int,
    options: str,
) -> None:  # fmt: skip
    own = 1 if shared_location else CLASSES
    location = (0.5 * rng.standard_normal((images, COUNT * own * 4))).astype(np.float32)
    confidence = rng.random((images, COUNT * CLASSES), np.float32)
    corner = rng.random((COUNT, 2)) * 0.7
    priors = np.stack([
        np.concatenate([corner, corner + 0.2 + 0.1 * rng.random((COUNT, 2))], axis=1).reshape(-1),
        np.tile([0.1, 0.1, 0.2, 0.2], COUNT),
    ])[None].astype(np.float32)  # fmt: skip
    nms = "" if "nms_param" in options else "nms_param { nms_threshold: 0.4 }"
    options = options.replace("top_k: 5", "nms_threshold: 0.4 top_k: 5")
    text = f"""layer {{ name: "d" type: "DetectionOutput" bottom: "x0" bottom: "x1" bottom: "x2"
        top: "y" detection_output_param {{ num_classes: {CLASSES} code_type: {code}
        share_location: {str(shared_location).lower()} confidence_threshold: 0.3
        {options} {nms} }} }}"""
    model = cf.load(tmp_path, cf.net(text, location.shape, confidence.shape, priors.shape))
    session = open_session(g.to_bytes(model.graph()), 1, "d")
    (got,) = session.run(None, {"x0": location, "x1": confidence, "x2": priors})
    expected = [
        row
        for i in range(images)
        for row in detect(
            i, decode(code, location[i].reshape(COUNT, own, 4), priors[0]),
            confidence[i].reshape(COUNT, CLASSES),
            5 if "top_k: 5" in options else COUNT, 7 if "keep" in options else None,
        )
    ]  # fmt: skip
    assert got.shape == (1, 1, len(expected), 7)
    np.testing.assert_allclose(got[0, 0], expected, rtol=1e-4, atol=1e-5)


def decode(code: str, offsets: Array, priors: Array) -> Array:
    prior, variance = priors.reshape(2, COUNT, 1, 4)
    size = prior[..., 2:] - prior[..., :2]
    delta = offsets * variance
    if code == "CENTER_SIZE":
        centre = delta[..., :2] * size + (prior[..., :2] + prior[..., 2:]) / 2
        half = np.exp(delta[..., 2:]) * size / 2
        return np.concatenate([centre - half, centre + half], axis=-1)
    corners: Array = prior + delta * (
        np.concatenate([size, size], axis=-1) if code == "CORNER_SIZE" else 1
    )
    return corners


def detect(
    image: int, boxes: Array, scores: Array, top_k: int, keep: int | None
) -> list[list[float]]:
    rows = []
    for label in range(1, CLASSES):
        own = boxes[:, label if boxes.shape[1] > 1 else 0]
        order = [i for i in np.argsort(-scores[:, label], kind="stable") if scores[i, label] > 0.3]
        kept: list[int] = []
        for i in order[:top_k]:
            if all(overlap(own[i], own[j]) <= 0.4 for j in kept):
                kept.append(i)
        rows += [[image, label, scores[i, label], *own[i]] for i in kept]
    if keep is not None and len(rows) > keep:
        least = sorted((r[2] for r in rows), reverse=True)[keep - 1]
        rows = [r for r in rows if r[2] >= least]
    return rows


def overlap(a: Array, b: Array) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inner = float(np.prod(np.clip(high - low, 0, None)))
    areas = [float(np.prod(np.clip(v[2:] - v[:2], 0, None))) for v in (a, b)]
    return inner / (sum(areas) - inner) if inner else 0.0


def test_network_with_detection_inside_is_a_detector(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    heads = ""
    for name, count in (("loc", 8), ("conf", 6)):
        heads += f"""
        layer {{ name: "{name}" type: "Convolution" bottom: "c" top: "{name}"
                 convolution_param {{ num_output: {count} kernel_size: 1 }} }}
        layer {{ name: "{name}p" type: "Permute" bottom: "{name}" top: "{name}p"
                 permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}
        layer {{ name: "{name}f" type: "Flatten" bottom: "{name}p" top: "{name}f" }}"""
    text = f"""layer {{ name: "c" type: "Convolution" bottom: "x0" top: "c"
            convolution_param {{ num_output: 16 kernel_size: 8 stride: 8 }} }} {heads}
        layer {{ name: "p" type: "PriorBox" bottom: "c" bottom: "x0" top: "p" prior_box_param {{
            min_size: 8 max_size: 16 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }} }}
        layer {{ name: "r" type: "Reshape" bottom: "conff" top: "r"
            reshape_param {{ shape {{ dim: 0 dim: -1 dim: 3 }} }} }}
        layer {{ name: "s" type: "Softmax" bottom: "r" top: "s" softmax_param {{ axis: 2 }} }}
        layer {{ name: "sf" type: "Flatten" bottom: "s" top: "sf" }}
        layer {{ name: "d" type: "DetectionOutput" bottom: "locf" bottom: "sf" bottom: "p" top: "d"
            detection_output_param {{ num_classes: 3 code_type: CENTER_SIZE
            confidence_threshold: 0.05 nms_param {{ nms_threshold: 0.5 }} keep_top_k: 20 }} }}"""
    weights = {name: [rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])), np.zeros(shape[0])]
               for name, shape in (("c", (16, 3, 8, 8)), ("loc", (8, 16, 1, 1)),
                                   ("conf", (6, 16, 1, 1)))}  # fmt: skip
    model = cf.load(tmp_path, cf.net(text, (1, 3, 32, 40)), weights)
    spec = DetectorSpec(RowsHead(), names=("a", "b"), score=0.1, overlap=1.0)
    image = rng.integers(0, 256, (64, 80, 3), np.uint8)
    detector = model.as_detector(spec)
    found = []
    for device, version in (("onnxruntime", detector), ("cpu", detector.quantize())):
        (one,) = accel.Detector(accel.device(device).compile(version)).detect([image])
        assert 1 <= len(one) <= 20 and (one.boxes <= [80, 64, 80, 64]).all()
        assert set(one.names) <= {"a", "b"}
        found.append(one)
    assert agreement([found[1]], [found[0]]).share >= 0.8
