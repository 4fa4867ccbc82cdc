"""The frame a detector sees: an image brought to the network's size, and boxes taken back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from accel.detection.boxes import Array
from accel.images import Image, ImageChain


@dataclass(frozen=True)
class Frame:
    """How images of any size become (height, width) of the network.

    Attributes
    ----------
    fit : "stretch" resizes to both sides; "letterbox" keeps the shape and pads around the image
    pad : value of the padding, 0..255
    """

    fit: Literal["stretch", "letterbox"] = "stretch"
    pad: int = 114

    def apply(self, image: Image, size: tuple[int, int]) -> Image:
        """The (height, width, C) uint8 image that the network sees of an (H, W, C) one."""
        if self.fit == "stretch":
            return ImageChain(resize=size)(image)
        top, left, height, width = self._place(image.shape[:2], size)
        framed = np.full((*size, image.shape[2]), self.pad, np.uint8)
        inner = ImageChain(resize=(height, width))(image)
        framed[top : top + height, left : left + width] = inner
        return framed

    def to_image(self, boxes: Array, image: tuple[int, int], size: tuple[int, int]) -> Array:
        """Boxes (n, 4) relative to the network's input as pixels of the (height, width) image."""
        top, left, height, width = self._place(image, size)
        origin = np.array([left, top] * 2, np.float64)
        stretch = np.array([image[1] / width, image[0] / height] * 2)
        pixels = (boxes * np.array([size[1], size[0]] * 2) - origin) * stretch
        limits = np.array([image[1], image[0]] * 2)
        inside: Array = np.clip(pixels, 0, limits).astype(np.float32)
        return inside

    def _place(self, image: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Top, left, height and width of the image within the frame."""
        if self.fit == "stretch":
            return 0, 0, *size
        ratio = min(size[0] / image[0], size[1] / image[1])
        height, width = (max(1, round(side * ratio)) for side in image[:2])
        return (size[0] - height) // 2, (size[1] - width) // 2, height, width
