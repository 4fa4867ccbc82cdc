"""The embedded digits model and the handwriting it is shown: what `accel demo` runs on.

The model is a small residual CNN trained by examples/train_digits.py on one half of
scikit-learn's handwritten digits; the other half, which training never saw, is the test set.
Nothing here is downloaded: the model is part of the package, the digits of scikit-learn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from accel.errors import UnsupportedError
from accel.model import Model, load

SIDE = 32  # the digits are enlarged from 8x8 to the size of a CIFAR image
CLASSES = 10
SPLIT_SEED = 0

Split = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def digits_model_path() -> Path:
    """Path of the embedded fp32 ONNX model.

    Input ``image`` (N, 1, 32, 32) float32 in 0..1; output ``logits`` (N, 10) float32.
    """
    return Path(__file__).parent / "data" / "digits.onnx"


def digits_model() -> Model:
    """The embedded model in fp32, taking the images of `digits_test` as they are.

    Input ``image`` (N, 32, 32, 1) uint8; output ``logits`` (N, 10) float32.
    """
    return load(digits_model_path()).with_preprocessing(scale=255.0)


def digits_test() -> Split:
    """The half of the digits that training never saw, in a fixed order.

    Returns
    -------
    images : (N, 32, 32, 1) uint8, 0 is paper and 255 is ink
    labels : (N,) int64, 0..9

    Raises
    ------
    UnsupportedError
        If scikit-learn, which carries the images, is not installed.

    Source: Alpaydin and Kaynak, *Optical Recognition of Handwritten Digits*, UCI 1998.
    """
    return digits_halves()[1]


def digits_halves() -> tuple[Split, Split]:
    """Training half and test half: every class is cut in two by one seeded shuffle."""
    small, labels = _load()
    images = enlarge(small)
    rng = np.random.default_rng(SPLIT_SEED)
    shuffled = [rng.permutation(np.flatnonzero(labels == c)) for c in range(CLASSES)]
    train = np.sort(np.concatenate([rows[: len(rows) // 2] for rows in shuffled]))
    test = np.sort(np.concatenate([rows[len(rows) // 2 :] for rows in shuffled]))
    return (images[train], labels[train]), (images[test], labels[test])


def enlarge(small: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Enlarge (N, 8, 8) images of 0..16 to (N, 32, 32, 1) uint8, bilinear.

    The weights are multiples of 1/8, so the sums are exact and equal on every machine.
    """
    weights = _bilinear(small.shape[1], SIDE)
    large = weights @ small @ weights.T
    return np.rint(large * (255.0 / 16.0)).astype(np.uint8)[..., np.newaxis]


def _bilinear(size: int, to: int) -> npt.NDArray[np.float64]:
    """(to, size) matrix that resamples a line; pixel centres at half integers, edges held."""
    centre = np.clip((np.arange(to) + 0.5) * size / to - 0.5, 0, size - 1)
    left = np.minimum(centre.astype(np.int64), size - 2)
    weights = np.zeros((to, size))
    weights[np.arange(to), left] = 1.0 - (centre - left)
    weights[np.arange(to), left + 1] = centre - left
    return weights


def _load() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        message = "the handwritten digits need scikit-learn: pip install 'lwaccel[demo]'"
        raise UnsupportedError(message) from error
    digits = load_digits()
    return digits.images, digits.target.astype(np.int64)
