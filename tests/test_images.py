"""Image bytes to pixels: every format and orientation against Pillow, and every bad input."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from accel import images
from accel.errors import ImageError, InputError, UnsupportedError
from accel.images import ImageChain, decode, encode_jpeg, read_folder

LOSSLESS = ("PNG", "BMP", "TIFF", "PPM")
ORIENTATION = 0x112


def picture(height: int = 40, width: int = 60) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth image without symmetry, so that a flip or a swapped channel shows."""
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)
    return np.stack([ramp % 256, ramp[::-1] // 2 % 256, 255 - ramp % 256], -1).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + crc + b"\0\0\0\x0aIDAT"


@pytest.mark.parametrize("kind", LOSSLESS)
def test_decode_lossless_format_returns_exact_rgb(kind: str) -> None:
    image = decode(encoded(Image.fromarray(picture()), kind))
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    np.testing.assert_array_equal(image, picture())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_decode_lossy_format_equals_pillow(kind: str) -> None:
    data = encoded(Image.fromarray(picture()), kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int64)
    assert np.abs(decode(data) - expected).max() <= 2


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"\xff\xc0" * 9},
                                     {"quality": 100, "subsampling": 0}])  # fmt: skip
def test_decode_jpeg_size_is_read_from_its_frame_header(options: dict[str, Any]) -> None:
    data = encoded(Image.fromarray(picture(40, 61)), "JPEG", **options)
    assert images._jpeg_size(data) == (61, 40)
    with pytest.raises(ImageError, match="claims 61x40 pixels"):
        decode(data, max_pixels=61 * 40 - 1)
    assert decode(data, max_pixels=61 * 40).shape == (40, 61, 3)


@given(st.lists(st.tuples(st.integers(2, 700), st.integers(0, 255)), max_size=4))
@settings(deadline=None, max_examples=300)
def test_decode_damaged_jpeg_is_never_larger_than_allowed(damage: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(Image.fromarray(picture(16, 16)), "JPEG"))
    for place, value in damage:
        data[place % len(data)] = value
    try:
        height, width, _ = decode(bytes(data), max_pixels=400).shape
    except ImageError:
        return
    assert height * width <= 400


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(Image.fromarray(picture()), "JPEG", exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    expected = np.asarray(upright.convert("RGB"), np.int64)
    assert np.abs(decode(data) - expected).max() <= 2


def test_decode_without_exif_gives_the_pixels_as_they_are_stored() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned = encoded(Image.fromarray(picture()), "JPEG", exif=exif, quality=95)
    plain = encoded(Image.fromarray(picture()), "JPEG", quality=95)
    np.testing.assert_array_equal(decode(turned, exif=False), decode(plain))
    np.testing.assert_array_equal(decode(turned), np.rot90(decode(plain), -1))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_decode_other_mode_gives_three_channels(mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(image)), expected)


def test_decode_cmyk_jpeg_gives_rgb() -> None:
    cmyk = Image.fromarray(picture()).convert("CMYK")
    difference = decode(encoded(cmyk, "JPEG", quality=95)).astype(np.int64) - picture()
    assert np.abs(difference).mean() < 3


def test_decode_16_bit_keeps_the_upper_8() -> None:
    ok, data = cv2.imencode(".png", picture()[:, :, ::-1].astype(np.uint16) * 257)
    assert ok
    np.testing.assert_array_equal(decode(data.tobytes()), picture())


def test_decode_empty_raises_empty() -> None:
    with pytest.raises(ImageError, match="0 bytes") as caught:
        decode(b"")
    assert caught.value.code == "EMPTY"


def test_decode_more_bytes_than_allowed_raises_too_large() -> None:
    with pytest.raises(ImageError, match="max_bytes=100") as caught:
        decode(encoded(Image.fromarray(picture())), max_bytes=100)
    assert caught.value.code == "TOO_LARGE"


@pytest.mark.parametrize("size", [(8000, 8000), (20000, 20000), (2**31 - 1, 2**31 - 1)])
def test_decode_huge_claim_in_header_raises_before_decoding(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="pixels") as caught:
        decode(png_header(*size))
    assert caught.value.code == "TOO_MANY_PIXELS"


def test_decode_max_pixels_is_inclusive() -> None:
    data = encoded(Image.fromarray(picture(40, 60)))
    assert decode(data, max_pixels=2400).shape == (40, 60, 3)
    with pytest.raises(ImageError, match="max_pixels=2399"):
        decode(data, max_pixels=2399)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_decode_truncated_raises_decode(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(picture(200, 300)), kind)
    with pytest.raises(ImageError) as caught:
        decode(data[: int(len(data) * share)])
    assert caught.value.code == "DECODE"


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.sampled_from(["", "JPEG", "PNG", "GIF", "TIFF"]))
def test_decode_noise_raises_decode_or_gives_an_image(noise: bytes, kind: str) -> None:
    start = encoded(Image.fromarray(picture(8, 8)), kind)[: len(noise)] if kind else b""
    try:
        image = decode(start + noise)
    except ImageError as error:
        assert error.code in {"DECODE", "TOO_MANY_PIXELS"}
    else:
        assert image.ndim == 3 and image.shape[2] == 3


def test_decode_text_instead_of_bytes_raises_input_error() -> None:
    with pytest.raises(InputError, match="not str"):
        decode("cat.jpg")  # type: ignore[arg-type]


def test_decode_without_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(picture()))
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'lwaccel\[vision\]'"):
        decode(data)


def test_image_error_pickles_with_its_code() -> None:
    error = pickle.loads(pickle.dumps(ImageError("too big", "TOO_LARGE")))
    assert (str(error), error.code) == ("too big", "TOO_LARGE")


def test_chain_default_returns_the_same_pixels() -> None:
    np.testing.assert_array_equal(ImageChain()(picture()), picture())


@pytest.mark.parametrize(
    ("resize", "shape"),
    [(20, (20, 30, 3)), (80, (80, 120, 3)), ((10, 50), (10, 50, 3)), (40, (40, 60, 3))],
)
def test_chain_resize_gives_the_size(resize: int | tuple[int, int], shape: tuple[int, ...]) -> None:
    assert ImageChain(resize=resize)(picture()).shape == shape


def test_chain_resize_halves_by_area_average() -> None:
    blocks = picture().reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
    small = ImageChain(resize=20)(picture())
    assert np.abs(small - blocks).max() <= 0.75


def test_chain_crop_takes_the_middle() -> None:
    np.testing.assert_array_equal(ImageChain(crop=20)(picture()), picture()[10:30, 20:40])


def test_chain_bgr_swaps_channels_and_is_contiguous() -> None:
    image = ImageChain(order="bgr")(picture())
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, picture()[:, :, ::-1])


def test_chain_grey_image_keeps_one_channel() -> None:
    assert ImageChain(resize=20, crop=16)(picture()[:, :, :1]).shape == (16, 16, 1)


def test_chain_that_normalizes_leaves_the_order_to_the_model() -> None:
    chain = ImageChain(order="bgr", mean=(0.1, 0.2, 0.3))
    np.testing.assert_array_equal(chain(picture()), picture())
    assert not ImageChain(order="bgr").normalizes and ImageChain(std=0.5).normalizes


def test_chain_pickles() -> None:
    chain = ImageChain(resize=(3, 4), crop=2, order="bgr", exif=False, mean=(0.5,), std=0.2)
    assert pickle.loads(pickle.dumps(chain)) == chain


def test_chain_crop_larger_than_image_raises_too_small() -> None:
    with pytest.raises(ImageError, match="60x40 is smaller than crop=41") as caught:
        ImageChain(crop=41)(picture())
    assert caught.value.code == "TOO_SMALL"


def test_chain_long_thin_image_is_not_blown_up() -> None:
    line = np.zeros((1, 1_000_000, 3), np.uint8)
    with pytest.raises(ImageError) as caught:
        ImageChain(resize=256)(line)
    assert caught.value.code == "TOO_MANY_PIXELS"


@pytest.mark.parametrize(
    "options",
    [{"resize": 0}, {"crop": -1}, {"resize": (3, 0)}, {"resize": (1, 2, 3)}, {"order": "rbg"}],
)
def test_chain_bad_options_raise_input_error(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ImageChain(**options)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[1]],
    ],
)
def test_chain_not_an_image_raises_input_error(image: Any) -> None:
    with pytest.raises(InputError, match="uint8 array"):
        ImageChain()(image)


def test_read_folder_sorts_and_keeps_errors_beside_images(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    good = encoded(Image.fromarray(picture()))
    (tmp_path / "sub" / "c.png").write_bytes(good)
    (tmp_path / "b.jpg").write_bytes(b"not a picture")
    (tmp_path / "a.PNG").write_bytes(good)
    (tmp_path / "notes.txt").write_text("no image")
    found = dict(read_folder(tmp_path))
    assert list(found) == ["a.PNG", "b.jpg", "sub/c.png"]
    broken = found["b.jpg"]
    assert isinstance(broken, ImageError) and broken.code == "DECODE"
    np.testing.assert_array_equal(found["sub/c.png"], picture())


def test_read_folder_large_file_is_an_error_of_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(picture())))
    ((_, error),) = read_folder(tmp_path, max_bytes=10)
    assert isinstance(error, ImageError) and error.code == "TOO_LARGE"


def test_read_folder_missing_raises_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder at"):
        list(read_folder(tmp_path / "nowhere"))


def test_encoded_jpeg_decodes_to_nearly_the_same_image() -> None:
    rows, columns = np.mgrid[:40, :60]
    image = np.stack([rows * 4, columns * 4, rows + columns], axis=-1).astype(np.uint8)
    again = decode(encode_jpeg(image))
    assert again.shape == image.shape
    assert np.abs(again.astype(int) - image).mean() < 4
