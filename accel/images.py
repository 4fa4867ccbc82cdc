"""Image bytes to pixels, and pixels to the fixed size a model takes.

Everything here is integer work on uint8; mean, std and scale belong to the model (see
`Model.with_preprocessing`). Bytes come from outside, so the size an image claims is checked
from its header before a decoder may allocate for it. Pillow reads headers, except those of usual
JPEG files, which a few lines here read ten times faster; OpenCV decodes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from accel.errors import ImageError, InputError, UnsupportedError

if TYPE_CHECKING:
    from accel.model import Model

Image = npt.NDArray[np.uint8]

MAX_PIXELS = 50_000_000
MAX_BYTES = 64 << 20
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers of frame headers
_SEGMENTS = frozenset(range(0xC0, 0xFF)) - frozenset(range(0xD0, 0xDB))  # and before them
_SIZE = struct.Struct(">HH")
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"]
)


def decode(
    data: bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES, exif: bool = True
) -> Image:
    """Decode one image file to RGB.

    Parameters
    ----------
    data : bytes of a JPEG, PNG, BMP, GIF (first frame), WebP, TIFF (first page) or PPM file
    max_pixels : largest width times height accepted, read from the header
    max_bytes : largest file accepted
    exif : turn the image as its EXIF orientation says

    Returns
    -------
    image : (H, W, 3) uint8, RGB, C-contiguous. Grey is repeated over the channels, alpha is
        dropped, CMYK is converted, 16 bits keep the upper 8.

    Raises
    ------
    ImageError
        With code ``EMPTY``, ``TOO_LARGE``, ``TOO_MANY_PIXELS`` or ``DECODE``.
    InputError
        If `data` is not bytes.
    UnsupportedError
        If OpenCV or Pillow is not installed.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError(f"an image is given as bytes of its file, not {type(data).__name__}")
    size = len(data)
    if size == 0:
        raise ImageError("image is empty: 0 bytes; give the bytes of an image file", "EMPTY")
    if size > max_bytes:
        message = f"image file has {size} bytes, more than max_bytes={max_bytes}"
        raise ImageError(message, "TOO_LARGE")
    _check_pixels(data, max_pixels)
    return _decode_checked(data, exif)


def _check_pixels(data: bytes, max_pixels: int) -> None:
    """Refuse an image by the size that its header claims; nothing is decoded yet."""
    width, height = _jpeg_size(data) or _any_size(data)
    if width * height > max_pixels:
        message = f"image claims {width}x{height} pixels, more than max_pixels={max_pixels}"
        raise ImageError(message, "TOO_MANY_PIXELS")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in the first frame header of a JPEG file, which is the one that a decoder
    takes; None where segments do not follow each other plainly, or it is no JPEG.

    Source: ITU-T T.81, sections B.1.1.3 and B.2.2.
    """
    if data[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF and data[at + 1] in _SEGMENTS:
        if data[at + 1] in _FRAMES:
            height, width = _SIZE.unpack_from(data, at + 5)
            return (width, height) if width and height else None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _any_size(data: bytes) -> tuple[int, int]:
    """Width and height in the header of a file of `FORMATS`."""
    pillow = _pillow()
    bombs = (pillow.DecompressionBombError, pillow.DecompressionBombWarning)
    try:
        with pillow.open(io.BytesIO(data), formats=FORMATS) as header:
            size: tuple[int, int] = header.size
            return size
    except bombs as error:
        raise ImageError(f"image claims too many pixels: {error}", "TOO_MANY_PIXELS") from error
    except Exception as error:  # broken headers leave Pillow's parsers by many exceptions
        message = f"not an image of a known format ({', '.join(FORMATS)}), or a broken header"
        raise ImageError(message, "DECODE") from error


def _decode_checked(data: bytes, exif: bool) -> Image:
    cv2 = _opencv()
    flags = cv2.IMREAD_COLOR_RGB | (0 if exif else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        rgb: Image | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"image cannot be decoded: {error}", "DECODE") from error
    if rgb is None:
        message = f"image of {len(data)} bytes cannot be decoded: truncated or corrupt"
        raise ImageError(message, "DECODE")
    return rgb


@dataclass(frozen=True)
class ImageChain:
    """Steps from an image file to the pixels a model takes: resize, crop, channel order.

    Normalisation is part of the program, not of the pixels: `fold` puts it there.

    Parameters
    ----------
    resize : None, or the new length of the shorter side (the shape is kept), or (height,
        width). Bilinear to enlarge, area average to reduce.
    crop : None, or the side of the square cut out of the middle
    order : "rgb" as decoded, or "bgr"; grey (H, W, 1) images pass either way
    exif : whoever decodes the file turns the image as its EXIF orientation says
    mean, std, scale : the network wants ``(pixel / scale - mean) / std``; one value, or one for
        each channel in the network's order. Where either is given, `order` is folded too.

    Raises
    ------
    InputError
        If a size is not positive or the order is unknown.
    """

    resize: int | tuple[int, int] | None = None
    crop: int | None = None
    order: Literal["rgb", "bgr"] = "rgb"
    exif: bool = True
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    scale: float = 255.0

    def __post_init__(self) -> None:
        sizes = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        if isinstance(self.resize, tuple) and len(sizes) != 2:
            raise InputError(f"resize takes one side or (height, width), not {self.resize}")
        for size in (*sizes, self.crop):
            if size is not None and not 1 <= size <= MAX_PIXELS:
                raise InputError(f"resize and crop take sizes in pixels from 1, not {size}")
        if self.order not in ("rgb", "bgr"):
            raise InputError(f"order is 'rgb' or 'bgr', not {self.order!r}")

    def __call__(self, image: Image) -> Image:
        """Apply to `image` (H, W, C) uint8, C of 1 or 3; returns a C-contiguous array.

        Raises
        ------
        InputError
            If `image` is not such an array.
        ImageError
            ``TOO_SMALL`` if it is smaller than the crop, ``TOO_MANY_PIXELS`` if it is so long
            and thin that the resized one would pass `MAX_PIXELS`.
        """
        return np.ascontiguousarray(self.view(image))

    def view(self, image: Image) -> Image:
        """As a call; may be a view of `image` or of a larger one, for who copies it anyway."""
        _check_image(image)
        if self.resize is not None:
            image = _resized(image, self._size(image.shape[0], image.shape[1]))
        if self.crop is not None:
            image = _cropped(image, self.crop)
        if self.order == "bgr" and not self.normalizes:
            image = image[:, :, ::-1]
        return image

    @property
    def normalizes(self) -> bool:
        """Whether the network wants normalised values."""
        return self.mean is not None or self.std is not None

    def fold(self, model: Model) -> Model:
        """A model that takes the pixels of this chain: `Model.with_preprocessing`. Fold before
        `Model.quantize`, which then takes the pixels as they are."""
        mean, std = (0.0 if self.mean is None else self.mean, 1.0 if self.std is None else self.std)
        return model.with_preprocessing(mean, std, self.scale, self.order)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after the resize of an image of this size."""
        if isinstance(self.resize, tuple):
            return self.resize
        side = self.resize or min(height, width)
        ratio = side / min(height, width)
        return max(side, round(height * ratio)), max(side, round(width * ratio))


def _check_image(image: Image) -> None:
    good = isinstance(image, np.ndarray) and image.ndim == 3 and image.dtype == np.uint8
    if not good or image.size == 0 or image.shape[2] not in (1, 3):
        given = f"{type(image).__name__} {getattr(image, 'shape', '')} of "
        given += f"{getattr(image, 'dtype', 'no dtype')}"
        raise InputError(f"an image is a (H, W, 3) or (H, W, 1) uint8 array, not {given}")


def encode_jpeg(image: Image, quality: int = 90) -> bytes:
    """A JPEG file of an RGB image, uint8 (H, W, 3); `quality` is 1 to 100."""
    _check_image(image)
    cv2 = _opencv()
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    data: bytes = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    return data


def _resized(image: Image, size: tuple[int, int]) -> Image:
    height, width = size
    if height * width > MAX_PIXELS:
        message = f"resizing {image.shape[1]}x{image.shape[0]} gives {width}x{height} pixels"
        raise ImageError(f"{message}, more than {MAX_PIXELS}", "TOO_MANY_PIXELS")
    cv2 = _opencv()
    smaller = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    resized: Image = cv2.resize(image, (width, height), interpolation=method)
    return resized.reshape(height, width, image.shape[2])  # OpenCV drops a single channel


def _cropped(image: Image, side: int) -> Image:
    height, width = image.shape[:2]
    if side > min(height, width):
        message = f"image of {width}x{height} is smaller than crop={side}; resize it first"
        raise ImageError(message, "TOO_SMALL")
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def read_folder(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Iterator[tuple[str, Image | ImageError]]:
    """Decode the images below a folder, one at a time, in the order of their names.

    Yields
    ------
    name : path relative to the folder, with forward slashes
    image : (H, W, 3) uint8 RGB as from `decode`, or the ImageError of a file that is broken,
        so that one bad file does not end the walk. Files without an image's suffix are passed.

    Raises
    ------
    InputError
        If `path` is not a folder.
    """
    for file in image_files(path):
        yield file.relative_to(path).as_posix(), _read_file(file, max_pixels, max_bytes)


def image_files(path: str | Path) -> list[Path]:
    """Files below the folder `path` with the suffix of an image, sorted by name."""
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}; give a folder that holds images")
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())


def _read_file(file: Path, max_pixels: int, max_bytes: int) -> Image | ImageError:
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)  # one more, for decode to see that it is too large
        return decode(data, max_pixels=max_pixels, max_bytes=max_bytes)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(f"cannot read {file}: {error.strerror}", "UNREADABLE")


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise UnsupportedError(_missing("Pillow")) from error
    return Image


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise UnsupportedError(_missing("OpenCV")) from error
    return cv2


def _missing(package: str) -> str:
    return f"reading images needs {package}: pip install 'lwaccel[vision]'"
