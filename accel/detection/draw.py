"""Draw boxes on an image."""

from __future__ import annotations

from collections.abc import Sequence

from accel.detection.boxes import Array
from accel.images import Image

GOLDEN = 0.618034  # of a turn between the hues of classes: neighbours never look alike


def draw_boxes(image: Image, boxes: Array, texts: Sequence[str], classes: Array) -> Image:
    """A copy of an (H, W, 3) uint8 RGB image with boxes (n, 4) in pixels, a text at each.

    `classes` (n,) choose the colours. Needs OpenCV, as decoding does.
    """
    import cv2

    drawn = image.copy()
    width = max(1, round(min(image.shape[:2]) / 200))
    for box, text, label in zip(boxes, texts, classes, strict=True):
        hue = int(label) * GOLDEN % 1 * 6
        red, green, blue = (
            int(255 * min(1, max(0, part)))
            for part in (abs(hue - 3) - 1, 2 - abs(hue - 2), 2 - abs(hue - 4))
        )
        x1, y1, x2, y2 = (int(v) for v in box)
        cv2.rectangle(drawn, (x1, y1), (x2, y2), (red, green, blue), width)
        size = (cv2.FONT_HERSHEY_SIMPLEX, max(0.4, min(image.shape[:2]) / 1000))
        (across, up), below = cv2.getTextSize(text, *size, 1)
        left, line = min(x1, max(0, image.shape[1] - across)), max(y1 - below, up)
        # dark below light, readable on anything
        cv2.putText(drawn, text, (left, line), *size, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(drawn, text, (left, line), *size, (255, 255, 255), 1, cv2.LINE_AA)
    return drawn
