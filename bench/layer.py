"""One layer to measure: its shape, its windows, its operands and its exact result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accel.lower.winograd import LEAST_INPUTS, LEAST_MACS, LEAST_OUTPUTS

Array = np.ndarray[Any, Any]
INPUT_SCALE, OUTPUT_SCALE = 0.02, 0.5  # of the peers, which have one for a whole tensor
# What a peer does to the pixels of a first layer: (x - MEAN) / STD to levels around PIXEL_ZERO.
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
PIXEL_ZERO = 108


@dataclass(frozen=True)
class Layer:
    """A square convolution over one image; a product (M, N, K) is its 1x1 case.

    `window` None is mode C, one scale for the whole activation; `weight_window` makes mode AW, and
    `transformed` mode F, which is A with the weights of Winograd's F(2, 3).
    """

    name: str
    size: int  # of the image; M of a product
    ic: int
    oc: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    window: int | None = 128
    weight_window: int | None = None
    product: bool = False
    transformed: bool = False

    @property
    def pad(self) -> int:
        return self.kernel // 2

    @property
    def out(self) -> int:
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def macs(self) -> int:
        pixels = self.size if self.product else self.out**2
        return pixels * self.oc * self.ic // self.groups * self.kernel**2

    @property
    def mode(self) -> str:
        if self.window is None:
            return "C"
        if self.weight_window is None:
            return f"{'F' if self.transformed else 'A'}-{min(self.window, self.ic)}"
        return f"AW-{min(self.weight_window, self.ic)}"

    @property
    def default_modes(self) -> list[str]:
        """How programs run it, and its direct sums where they do not."""
        usual = self.kernel == 3 and self.stride == 1 and self.groups == 1 and self.ic % 32 == 0
        wide = self.ic >= LEAST_INPUTS and self.oc >= LEAST_OUTPUTS
        pays = usual and wide and self.macs >= LEAST_MACS
        return ["F-128", "A-128"] if pays else ["A-128"]

    def with_mode(self, mode: str) -> Layer:
        """The same shape in another mode: "C", "A-64", "AW-32", "F-128". Raw pixels know one scale
        only."""
        if mode == "C" or self.ic <= 4:
            return replace(self, window=None, weight_window=None, transformed=False)
        kind, window = mode.split("-")
        return replace(
            self,
            window=int(window),
            weight_window=int(window) if kind == "AW" else None,
            transformed=kind == "F",
        )

    def shape(self) -> tuple[int, int, int, int]:
        return (1, 1, self.size, self.ic) if self.product else (1, self.size, self.size, self.ic)

    def weights(self) -> Array:
        """(OC, KH, KW, IC / groups) int8."""
        shape = (self.oc, self.kernel, self.kernel, self.ic // self.groups)
        return np.random.default_rng(1).integers(-127, 128, shape).astype(np.int8)

    def activations(self) -> Array:
        """NHWC uint8."""
        return np.random.default_rng(2).integers(0, 256, self.shape(), np.uint8)

    @property
    def has_pixels(self) -> bool:
        """Whether it is the first layer of a network, over raw pixels."""
        return self.ic == 3

    def levels(self) -> Array:
        """What the peers' integer products see: activations, or normalized pixels; 0 is padding."""
        x = self.activations()
        if not self.has_pixels:
            return x
        real = (x.astype(np.float32) - MEAN) * (1 / STD)
        return np.clip(np.rint(real / INPUT_SCALE), -PIXEL_ZERO, 255 - PIXEL_ZERO)

    def weight_scales(self) -> Array:
        """Such that sums of independent terms use the range of the peers' output."""
        depth = self.ic // self.groups * self.kernel**2
        return np.full(self.oc, 0.5 / np.sqrt(depth), np.float32)

    def integer_result(self) -> Array:
        """Exact sums of q * qw, NHWC or (M, N): float32 holds them if K is short, else float64."""
        depth = self.ic // self.groups * self.kernel**2
        real = np.float32 if depth * 255 * 127 < 2**24 else np.float64
        x, w = self.levels().astype(real), self.weights().astype(real)
        pad, s = self.pad, self.stride
        x = np.pad(x, ((0, 0), (0, 0) if self.product else (pad, pad), (pad, pad), (0, 0)))
        high, wide = (1, self.size) if self.product else (self.out, self.out)
        icg, ocg = self.ic // self.groups, self.oc // self.groups
        y = np.zeros((1, high, wide, self.oc), real)
        for i, j in np.ndindex(self.kernel, self.kernel):
            taps = x[:, i::s, j::s][:, :high, :wide]
            if icg == ocg == 1:
                y += taps * w[:, i, j, 0]
                continue
            for g in range(self.groups):
                part = w[g * ocg : (g + 1) * ocg, i, j].T
                y[..., g * ocg : (g + 1) * ocg] += taps[..., g * icg : (g + 1) * icg] @ part
        return y[0, 0] if self.product else y
