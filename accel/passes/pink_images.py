"""Images that stand for photographs where there are none: noise with their spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def pink_images(count: int, height: int, width: int, channels: int) -> Array:
    """Seeded noise, uint8 (count, height, width, channels), the same at every call.

    Amplitudes fall with 1 / frequency, as they do in photographs; channels are mostly alike.

    Source: Field, *Relations between the statistics of natural images and the response
    properties of cortical cells*, JOSA A 1987.
    """
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    frequency[0, 0] = np.inf  # the mean is set below
    spectrum = np.fft.fft2(rng.standard_normal((count, channels, height, width))) / frequency
    planes = np.fft.ifft2(spectrum).real
    planes = 0.3 * planes + 0.7 * planes.mean(axis=1, keepdims=True)
    planes /= planes.std(axis=(1, 2, 3), keepdims=True)
    brightness = rng.uniform(80, 170, (count, 1, 1, 1))
    pixels = np.clip(np.rint(50 * planes + brightness), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
