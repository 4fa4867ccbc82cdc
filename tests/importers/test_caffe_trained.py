"""The trained Caffe networks, where they are present."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel
from accel.images import ImageChain, read_folder
from accel.images import decode as decode_image

Array = np.ndarray[Any, Any]
CAFFE = Path("data", "models", "original", "caffe")
FILES = ["lenet", "cifar10_quick", "det1", "det2", "det3", "RFB-320"]


@pytest.mark.parametrize("name", FILES)
def test_shared_network_runs_on_own_code(name: str, shared: Path, rng: np.random.Generator) -> None:
    model = accel.load(shared / CAFFE / f"{name}.prototxt")
    program = accel.device("cpu").compile(model.quantize(), batch_size=2)
    assert program.explain().share >= 0.98
    x = rng.random((2, *model.inputs[0].shape[1:]), np.float32)  # type: ignore[arg-type]
    fp32 = accel.device("onnxruntime").compile(model, batch_size=2)
    for got, want in zip(outputs(program.run(x)), outputs(fp32.run(x)), strict=True):
        assert np.linalg.norm(got - want) <= 0.1 * np.linalg.norm(want)  # on noise


@pytest.mark.parametrize(("name", "fp32"), [("lenet", 0.9918), ("cifar10_quick", 0.7240)])
def test_shared_network_reaches_its_accuracy(name: str, fp32: float, shared: Path) -> None:
    """On 5,000 images each: of fewer, those won and lost by chance move the figure."""
    data = shared / "data"
    if name == "lenet":
        with np.load(data / "mnist" / "mnist_test_5000.npz") as file:
            x, labels = (file["image"][:, None] / 256).astype(np.float32), file["label"]
    else:
        with np.load(data / "cifar10" / "cifar10_test_jpeg_5000.npz") as file:
            jpeg, ends, labels = file["jpeg"], file["offset"], file["label"]
        images = np.stack([decode_image(jpeg[a:b].tobytes())
                           for a, b in itertools.pairwise(ends)])  # fmt: skip
        mean = np.load(data / "cifar10" / "cifar10_mean_image.npy")
        x = np.ascontiguousarray((images - mean).astype(np.float32).transpose(0, 3, 1, 2))
    model = accel.load(shared / CAFFE / f"{name}.prototxt")
    right = []
    for device, version in (("onnxruntime", model), ("cpu", model.quantize())):
        program = accel.device(device).compile(version, batch_size=50, threads=2)
        right.append(outputs(program.run(x))[0].argmax(axis=1) == labels)
    assert right[0].mean() == pytest.approx(fp32, abs=5e-4)
    won, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    assert abs(won - lost) <= 2 * np.sqrt(won + lost)
    assert won + lost <= 0.01 * len(labels)


def test_shared_face_stages_agree_with_fp32(shared: Path, rng: np.random.Generator) -> None:
    """MTCNN's second and third stage on crops around faces and on random ones."""
    models, photos = shared / "data" / "models", shared / "data" / "images" / "coco128" / "images"
    finder = accel.load(models / "version-RFB-320.onnx").as_detector("ultra-light-face-320")
    detector = accel.Detector(accel.device("cpu").compile(finder.quantize()))
    faces, others = [], []
    for _, image in read_folder(photos):
        assert isinstance(image, np.ndarray)
        for x1, y1, x2, y2 in detector.detect([image])[0].boxes:
            half = round(max(x2 - x1, y2 - y1) / 2)
            top, left = (round((a + b) / 2) - half + 200 for a, b in ((y1, y2), (x1, x2)))
            padded = np.pad(image, ((200, 200), (200, 200), (0, 0)))
            faces.append(padded[top : top + 2 * half, left : left + 2 * half])
        side = int(rng.integers(40, min(image.shape[:2])))
        top, left = (int(rng.integers(0, d - side + 1)) for d in image.shape[:2])
        others.append(image[top : top + side, left : left + side])
    for name, side in (("det2", 24), ("det3", 48)):
        resize = ImageChain((side, side))
        x = np.stack([resize(crop) for crop in (*faces, *others)]).astype(np.float32)
        x = np.ascontiguousarray(((x - 127.5) * 0.0078125).transpose(0, 3, 2, 1))
        model = accel.load(shared / CAFFE / f"{name}.caffemodel")
        calls = []
        for device, version in (("onnxruntime", model), ("cpu", model.quantize())):
            y = accel.device(device).compile(version, batch_size=16).run(x)
            assert isinstance(y, dict)
            calls.append(y["prob1"][:, 1] > 0.5)
        assert calls[0][: len(faces)].mean() > 0.7 and calls[0][len(faces) :].mean() < 0.1
        assert (calls[0] == calls[1]).mean() >= 0.99


def outputs(y: Any) -> list[Array]:
    return list(y.values()) if isinstance(y, dict) else [y]


def test_rfb_finds_what_its_onnx_form_finds(shared: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 3, 240, 320)).astype(np.float32)
    models = shared / "data" / "models"
    twin = accel.device("onnxruntime").compile(accel.load(models / "version-RFB-320.onnx")).run(x)
    own = accel.load(shared / CAFFE / "RFB-320.caffemodel")
    got = accel.device("onnxruntime").compile(own).run(x)
    assert isinstance(twin, dict) and isinstance(got, dict)
    np.testing.assert_allclose(got["scores"], twin["scores"], atol=1e-4)
    np.testing.assert_allclose(decode(got["boxes"]), twin["boxes"], atol=1e-4)


def decode(offsets: Array) -> Array:
    """Boxes of the face detector: variances 0.1 and 0.2 over its four grids of priors."""
    priors = []
    for stride, sizes in ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256))):
        rows, columns = -(-240 // stride), -(-320 // stride)
        for i in range(rows):
            for j in range(columns):
                cx, cy = (j + 0.5) / columns, (i + 0.5) / rows
                priors += [(cx, cy, s / 320, s / 240) for s in sizes]
    p = np.clip(np.array(priors), 0, 1)
    centre = offsets[..., :2] * 0.1 * p[:, 2:] + p[:, :2]
    half = np.exp(offsets[..., 2:] * 0.2) * p[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)
