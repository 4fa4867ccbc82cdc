"""The embedded model and its test half: sizes, separation from training, and accuracy."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from accel.demo import digits_halves, digits_model_path, digits_test, enlarge
from accel.errors import UnsupportedError

TOP1_AT_LEAST = 0.97
SIZE_BELOW = 500_000


def test_digits_test_has_the_documented_shape() -> None:
    images, labels = digits_test()
    assert images.shape == (901, 32, 32, 1) and images.dtype == np.uint8
    assert labels.shape == (901,) and labels.dtype == np.int64
    assert images.min() == 0 and images.max() == 255


def test_digits_halves_share_no_image_and_balance_the_classes() -> None:
    (train, train_labels), (test, test_labels) = digits_halves()
    known = {image.tobytes() for image in train}
    assert not any(image.tobytes() in known for image in test)
    difference = np.bincount(test_labels) - np.bincount(train_labels)
    assert set(difference.tolist()) <= {0, 1}
    assert len(train) + len(test) == 1797


def test_enlarge_constant_image_stays_constant() -> None:
    assert np.unique(enlarge(np.full((1, 8, 8), 16.0))).tolist() == [255]


def test_enlarge_ramp_stays_straight_inside() -> None:
    ramp = np.broadcast_to(np.arange(8.0), (1, 8, 8))
    line = enlarge(ramp)[0, 0, 2:-2, 0]
    expected = (np.arange(28) / 4 + 0.125) * 255 / 16
    np.testing.assert_allclose(line, expected, atol=0.5)


def test_digits_model_in_fp32_reads_the_unseen_half() -> None:
    images, labels = digits_test()
    session = ort.InferenceSession(digits_model_path())
    x = (images.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    (logits,) = session.run(["logits"], {"image": x})
    assert np.mean(logits.argmax(1) == labels) >= TOP1_AT_LEAST


def test_digits_model_file_is_small_and_keeps_its_batchnorm() -> None:
    assert digits_model_path().stat().st_size < SIZE_BELOW
    model = onnx.load(digits_model_path())
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert {"Conv", "BatchNormalization", "Relu", "Add", "GlobalAveragePool", "Gemm"} <= kinds
    groups = [a.i for n in model.graph.node for a in n.attribute if a.name == "group"]
    assert max(groups) > 1


def test_digits_test_without_scikit_learn_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'lwaccel\[demo\]'"):
        digits_test()
