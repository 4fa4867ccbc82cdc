"""Detectors: from images of any size to boxes in their pixels, on every device."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_networks import YOLO, yolo_network

import accel
from accel.detection.description import from_json, to_json
from accel.detection.frame import Frame
from accel.detection.known import known_detectors, load_spec
from accel.detection.spec import DetectorSpec, Normalization

Array = np.ndarray[Any, Any]


def images(rng: np.random.Generator) -> list[Array]:
    sizes = [(64, 64), (90, 40), (33, 120), (64, 64), (7, 5)]
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def same(found: list[accel.Detections], other: list[accel.Detections]) -> None:
    for a, b in zip(found, other, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.scores, b.scores)
        assert a.names == b.names


def test_devices_and_batch_sizes_give_the_same_boxes(rng: np.random.Generator) -> None:
    model = yolo_network(rng).as_detector(YOLO).quantize()
    first = accel.Detector(accel.device("cpu").compile(model)).detect(images(rng))
    assert sum(map(len, first)) > 10
    rng = np.random.default_rng(0)
    yolo_network(rng)  # as far as the generator went above
    inputs = images(rng)
    for device in ("mkl", "fpga"):
        detector = accel.Detector(accel.device(device).compile(model, batch_size=2))
        same(detector.detect(inputs), first)
    for device in ("openvino", "onnxruntime", "auto"):
        detector = accel.Detector(accel.device(device).compile(model, batch_size=3))
        found = detector.detect(inputs)
        assert [len(f.boxes) for f in found] == [len(f.names) for f in found]
        assert abs(sum(map(len, found)) - sum(map(len, first))) <= 2


def test_boxes_lie_inside_their_image_and_carry_names(rng: np.random.Generator) -> None:
    model = yolo_network(rng).as_detector(YOLO)
    detector = accel.Detector(accel.device("onnxruntime").compile(model, batch_size=4), limit=3)
    inputs = images(rng)
    for image, found in zip(inputs, detector.detect(inputs), strict=True):
        assert len(found) <= 3 and found.boxes.dtype == found.scores.dtype == np.float32
        assert (np.diff(found.scores) <= 0).all() and (found.scores > YOLO.score).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= np.array([image.shape[1], image.shape[0]] * 2)).all()
        assert found.names == tuple(("cat", "dog", "2")[c] for c in found.classes)


def test_description_travels_with_the_model(rng: np.random.Generator, tmp_path: Path) -> None:
    model = yolo_network(rng).as_detector(YOLO).quantize()
    for copy in (accel.load(model.save(tmp_path / "m.onnx")), pickle.loads(pickle.dumps(model))):
        assert copy.detector_spec == YOLO
    assert yolo_network(rng).detector_spec is None


@pytest.mark.parametrize("size", [(10, 40), (50, 20), (64, 32), (1, 300)])
def test_letterbox_returns_to_the_image(size: tuple[int, int]) -> None:
    frame, target = Frame("letterbox", pad=7), (32, 64)
    framed = frame.apply(np.full((*size, 3), 200, np.uint8), target)
    rows, columns = np.nonzero(framed[..., 0] == 200)
    assert framed.shape == (32, 64, 3) and set(np.unique(framed)) <= {7, 200}
    inner = np.array([[columns.min() / 64, rows.min() / 32, (columns.max() + 1) / 64,
                       (rows.max() + 1) / 32]])  # fmt: skip
    box = frame.to_image(inner, size, target)
    np.testing.assert_allclose(box, [[0, 0, size[1], size[0]]], atol=1e-4)


def test_known_detectors_read_back() -> None:
    assert len(known_detectors()) >= 4
    for name in known_detectors():
        assert from_json(to_json(load_spec(name))) == load_spec(name)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", '{"head": 3}', '{"head": {"kind": "ssd"}, "surprise": 1}',
        '{"head": {"kind": "yolo"}}', '{"head": {"kind": "eval"}}',
        '{"head": {"kind": "yolo", "anchors": []}}',
        '{"head": {"kind": "yolo", "anchors": [[[1, "a"]]]}}',
        '{"head": {"kind": "yolo", "anchors": [[[1, 1e999]]]}}',
        '{"head": {"kind": "ssd", "scores": -1}}', '{"head": {"kind": "ssd", "scores": true}}',
        '{"head": {"kind": "ssd", "coding": "x"}}',
        '{"head": {"kind": "ssd", "priors": {"strides": [0], "sizes": [[[1, 1]]]}}}',
        '{"head": {"kind": "ssd", "priors": {"strides": [1, 2], "sizes": [[[1, 1]]]}}}',
        '{"head": {"kind": "rows"}, "score": 2}', '{"head": {"kind": "rows"}, "score": NaN}',
        '{"head": {"kind": "rows"}, "limit": 1e9}', '{"head": {"kind": "rows"}, "names": [1]}',
        '{"head": {"kind": "rows"}, "frame": {"fit": "crop"}}', "[" * 100_000, "9" * 3_000_000,
    ],
    ids=lambda text: text[:60],
)  # fmt: skip
def test_bad_description_raises(text: str) -> None:
    with pytest.raises(accel.InputError, match=r"description|score"):
        from_json(text)


def test_bad_use_raises(rng: np.random.Generator, tmp_path: Path) -> None:
    network = yolo_network(rng)
    device = accel.device("onnxruntime")
    with pytest.raises(accel.ModelError, match="as_detector"):
        accel.Detector(device.compile(network))
    with pytest.raises(accel.InputError, match="known detector"):
        network.as_detector(tmp_path / "absent.json")
    with pytest.raises(accel.InputError, match="score"):
        DetectorSpec(YOLO.head, score=float("nan"))
    with pytest.raises(accel.InputError, match="mean"):
        network.as_detector(DetectorSpec(YOLO.head, normalization=Normalization((1.0, 2.0))))
    program = device.compile(network.as_detector(YOLO))
    with pytest.raises(accel.InputError, match="overlap"):
        accel.Detector(program, overlap=1.5)
    detector = accel.Detector(program)
    with pytest.raises(accel.InputError, match="sequence"):
        detector.detect(np.zeros((64, 64, 3), np.uint8))  # type: ignore[arg-type]
    for odd in (np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)):
        with pytest.raises(accel.InputError, match="image"):
            detector.detect([odd])
    assert detector.detect([]) == []
