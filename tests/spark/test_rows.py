"""Rows: every form a value may come in, and every way it can be wrong."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import accel
from accel.images import ImageChain
from spark_bridge.rows import RowError, grey, image_row, tensor_row
from spark_bridge.settings import Settings

IMAGE = accel.TensorSpec("image", (16, 16, 3), np.dtype(np.uint8))
GREY = accel.TensorSpec("image", (16, 16, 1), np.dtype(np.uint8))
FLOATS = accel.TensorSpec("x", (2, 3), np.dtype(np.float32))
IDS = accel.TensorSpec("ids", (4,), np.dtype(np.int64))


@pytest.fixture
def square(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (16, 16, 3), np.uint8)


def test_image_row_file_and_array_give_the_same_pixels(
    pixels: np.ndarray, files: list[bytes]
) -> None:
    for form in (files[0], bytearray(files[0]), memoryview(files[0]), pixels[0]):
        np.testing.assert_array_equal(image_row(form, IMAGE, None, Settings()), pixels[0])


def test_image_row_chain_makes_other_sizes_fit(rng: np.random.Generator) -> None:
    wide = rng.integers(0, 256, (30, 50, 3), np.uint8)
    fitted = image_row(wide, IMAGE, ImageChain(resize=16, crop=16), Settings())
    assert fitted.shape == (16, 16, 3) and fitted.dtype == np.uint8


@given(st.integers(0, 255))
def test_grey_of_equal_channels_is_exact(value: int) -> None:
    image = np.full((2, 3, 3), value, np.uint8)
    np.testing.assert_array_equal(grey(image), image[..., :1])


def test_image_row_one_channel_model_gets_luma(pixels: np.ndarray) -> None:
    found = image_row(pixels[0], GREY, None, Settings())
    luma = pixels[0] @ np.array([0.299, 0.587, 0.114])
    assert found.shape == (16, 16, 1)
    assert np.abs(found[..., 0] - luma).max() <= 1.5


@pytest.mark.parametrize(
    ("value", "code", "stage"),
    [
        (None, "NULL_INPUT", "read"),
        (b"", "EMPTY", "decode"),
        (b"no image", "DECODE", "decode"),
        ("text", "SHAPE", "read"),
        (np.zeros((16, 16), np.uint8), "SHAPE", "prepare"),
        (np.zeros((16, 16, 3), np.float32), "SHAPE", "prepare"),
        (np.zeros((16, 15, 3), np.uint8), "SHAPE", "prepare"),
    ],
)
def test_image_row_bad_value_says_where_and_why(value: object, code: str, stage: str) -> None:
    with pytest.raises(RowError) as caught:
        image_row(value, IMAGE, None, Settings())
    assert (caught.value.code, caught.value.stage) == (code, stage)
    assert caught.value.message


def test_image_row_limits_are_those_of_the_settings(files: list[bytes]) -> None:
    for limits, code in ((Settings(max_pixels=255), "TOO_MANY_PIXELS"),
                         (Settings(max_bytes=10), "TOO_LARGE")):  # fmt: skip
        with pytest.raises(RowError, match=code):
            image_row(files[0], IMAGE, None, limits)


def test_image_row_crop_beyond_the_image_is_the_rows_error(files: list[bytes]) -> None:
    with pytest.raises(RowError, match="TOO_SMALL at prepare"):
        image_row(files[0], IMAGE, ImageChain(crop=17), Settings())


def test_tensor_row_every_form_gives_the_same_array() -> None:
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    forms = (expected, expected.tobytes(), [0, 1, 2, 3, 4, 5], [[0, 1, 2], [3, 4, 5]],
             np.arange(6.0), memoryview(expected.tobytes()))  # fmt: skip
    for form in forms:
        found = tensor_row(form, FLOATS)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "NULL_INPUT"),
        (b"123", "SHAPE"),
        ([1.0, 2.0], "SHAPE"),
        ([1.0] * 5 + [None], "SHAPE"),
        ([[1.0, 2.0], [3.0]], "SHAPE"),
        (["a"] * 6, "SHAPE"),
        (np.zeros((3, 2), np.float32), "SHAPE"),
    ],
)
def test_tensor_row_bad_value_is_refused(value: object, code: str) -> None:
    with pytest.raises(RowError, match=code):
        tensor_row(value, FLOATS)


@pytest.mark.parametrize("value", [[1.5, 0, 0, 0], [float("nan")] * 4, [1e30] * 4])
def test_tensor_row_number_that_an_integer_input_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(RowError, match="do not fit int64"):
        tensor_row(value, IDS)


def test_row_error_survives_pickling() -> None:
    error = RowError("SHAPE", "prepare", "too long")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "SHAPE at prepare: too long"
