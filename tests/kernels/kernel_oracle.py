"""The scheme of kernels/include/lw.h in plain NumPy float64, and Hypothesis cases to try it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from accel import kernels

# |y - exact| of float32 sums, relative to the sum of the absolute products.
FLOAT_BUDGET = 2e-6


def spread(scale: np.ndarray, window: int, length: int) -> np.ndarray:
    """One scale per channel from one scale per window."""
    return np.repeat(scale.astype(np.float64), window, axis=-1)[..., :length]


def zero_point(signed: int) -> int:
    """Of what kernels call signed: a bool, or the number itself."""
    return (128 if signed else 0) if isinstance(signed, bool) else signed


def quantize(x: np.ndarray, window: int, signed: int) -> tuple[np.ndarray, np.ndarray]:
    """quantize_windows of finite x, in float32 as specified."""
    k, zero = x.shape[-1], zero_point(signed)
    levels = np.float32({0: 255, 128: 127}.get(zero, zero))
    above = np.float32(1 if zero in (0, 128) else levels / np.float32(255 - zero))
    q = np.full(x.shape, zero, np.uint8)
    scale = np.zeros((*x.shape[:-1], -(-k // window)), np.float32)
    for row in np.ndindex(x.shape[:-1]):
        for w in range(scale.shape[-1]):
            part = x[row][w * window : (w + 1) * window]
            top = np.max(np.maximum(part * above, -part if zero else np.float32(0)))
            if top >= 2.0**-100:
                scale[row][w] = top * (np.float32(1) / levels)
                steps = part * (levels / top)
                steps = steps if zero else np.maximum(steps, 0)
                q[row][w * window : (w + 1) * window] = zero + np.rint(steps)
    return q, scale


def convolve(x: np.ndarray, w: np.ndarray, case: ConvCase) -> np.ndarray:
    """Float64 convolution, NHWC by OHWI, one tap at a time."""
    top, left, bottom, right = case.pads
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    (kh, kw), (sh, sw), (dh, dw) = w.shape[1:3], case.strides, case.dilations
    oh, ow = (x.shape[1] - (kh - 1) * dh - 1) // sh + 1, (x.shape[2] - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((x.shape[0], oh, ow, w.shape[0]))
    icg, ocg = w.shape[3], w.shape[0] // case.groups
    for i, j, g in np.ndindex(kh, kw, case.groups):
        taps = x[:, i * dh :: sh, j * dw :: sw][:, :oh, :ow, g * icg : (g + 1) * icg]
        y[..., g * ocg : (g + 1) * ocg] += taps @ w[g * ocg : (g + 1) * ocg, i, j].T
    return y


TILE = 14  # LW_DEPTHWISE_TILE
LEVELS = 255 << 7


def tap_weights(case: ConvCase) -> tuple[np.ndarray, np.ndarray]:
    """Integer weights (C, KH, KW) of a depthwise layer, and a scale per channel."""
    qw, sw = case.data()["qw"][..., 0].astype(np.float32), case.data()["sw"]
    if case.weight_window is None:
        return qw.astype(np.int64), sw
    steps = np.float32(min(16, (2**31 - 1) // (LEVELS * 127 * qw[0].size)))
    sw = sw[..., 0]
    top = sw.max(axis=(1, 2), keepdims=True)
    factor = np.divide(steps, top, out=np.zeros_like(top), where=top >= 2.0**-112)
    scale = np.where(top >= 2.0**-112, top / steps, np.float32(0))
    return np.rint(qw * (sw * factor)).astype(np.int64), scale[:, 0, 0]


def depthwise(case: ConvCase) -> tuple[np.ndarray, np.ndarray]:
    """The sums of lw.h before bias and activation, in float64; and what rounding v may change."""
    d, (top, left, bottom, right) = case.data(), case.pads
    channels, zero = case.groups, 128 if case.signed else 0
    border = ((0, 0), (top, bottom), (left, right), (0, 0))
    q = np.pad(d["q"].astype(np.int64) - zero, border)
    scale = np.pad(spread(d["scale"], min(case.window or 1, channels), channels), border)
    qd, sb = tap_weights(case)
    (kh, kw), (sh, sw), (dh, dw) = case.kernel, case.strides, case.dilations
    oh, ow = (q.shape[1] - (kh - 1) * dh - 1) // sh + 1, (q.shape[2] - (kw - 1) * dw - 1) // sw + 1
    y, change = np.zeros((case.n, oh, ow, channels)), np.zeros((case.n, oh, ow, channels))
    for n, y0, x0 in np.ndindex(case.n, -(-oh // TILE), -(-ow // TILE)):
        out = (
            n,
            slice(y0 * TILE, min(oh, y0 * TILE + TILE)),
            slice(x0 * TILE, min(ow, x0 * TILE + TILE)),
        )
        rows = slice(out[1].start * sh, (out[1].stop - 1) * sh + (kh - 1) * dh + 1)
        cols = slice(out[2].start * sw, (out[2].stop - 1) * sw + (kw - 1) * dw + 1)
        s = scale[n, rows, cols].astype(np.float32)
        largest = s.max(axis=(0, 1))
        seen = largest >= 2.0**-112
        f = np.divide(np.float32(2**14), largest, out=np.zeros_like(largest), where=seen)
        unit = np.where(seen, largest * np.float32(2**-7), np.float32(0))
        v = (q[n, rows, cols] * np.rint(s * f).astype(np.int64)) >> 8
        acc = np.zeros(y[out].shape, np.int64)
        for i, j in np.ndindex(kh, kw):
            taps = v[i * dh :: sh, j * dw :: sw][: acc.shape[0], : acc.shape[1]]
            acc += 2 * taps * qd[:, i, j]
        y[out] = acc.astype(np.float32).astype(np.float64) * (unit * sb)
        change[out] = unit.astype(np.float64) * (3 * np.abs(qd).sum(axis=(1, 2)) * sb)
        if case.weight_window is not None:
            change[out] += LEVELS * unit.astype(np.float64) * kh * kw * sb / 2
    return y, change


@dataclass(frozen=True)
class ConvCase:
    """One convolution: shapes, and a seed for the values."""

    seed: int
    n: int = 1
    size: tuple[int, int] = (6, 7)
    groups: int = 1
    icg: int = 8
    ocg: int = 8
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilations: tuple[int, int] = (1, 1)
    window: int | None = 8  # None: mode C
    weight_window: int | None = None
    signed: int = True
    fine: bool = False
    activation: str = "none"
    values: str = "normal"
    threads: int = 1
    arrays: dict[str, Any] = field(default_factory=dict, compare=False)

    def data(self) -> dict[str, Any]:
        """x, q, scale (None in mode C), qw, sw, bias; made once."""
        if not self.arrays:
            self.arrays.update(self._make(np.random.default_rng(self.seed)))
        return self.arrays

    def _make(self, rng: np.random.Generator) -> dict[str, Any]:
        shape = (self.n, *self.size, self.groups * self.icg)
        oc = self.groups * self.ocg
        x = make_values(rng, shape, self.values)
        if not self.signed:
            x = np.abs(x)
        most, kind = (2032, np.int16) if self.fine else (127, np.int8)
        qw = rng.integers(-most, most + 1, (oc, *self.kernel, self.icg)).astype(kind)
        if self.values == "saturating":
            qw[...] = rng.choice(np.array([-most, most], kind), (oc, 1, 1, 1))
        sw_shape: tuple[int, ...] = (oc,)
        if self.weight_window is not None:
            sw_shape = (oc, *self.kernel, -(-self.icg // min(self.weight_window, self.icg)))
        if self.window is None:
            q, scale = kernels.quantize_windows(x, shape[3], self.signed)[0], None
        else:
            q, scale = kernels.quantize_windows(x, self.window, self.signed)
        sw = rng.random(sw_shape, np.float32)
        bias = rng.standard_normal(oc, np.float32)
        return {"x": x, "q": q, "scale": scale, "qw": qw, "sw": sw, "bias": bias}

    @property
    def is_depthwise(self) -> bool:
        return self.groups > 1 and self.icg == self.ocg == 1 and self.window is not None

    def pack(self) -> kernels.PackedWeights:
        d = self.data()
        return kernels.pack_weights(
            d["qw"],
            d["sw"],
            self.window,
            weight_window=self.weight_window,
            signed=self.signed,
            groups=self.groups,
        )

    def options(self) -> dict[str, Any]:
        return {
            "strides": self.strides,
            "pads": self.pads,
            "dilations": self.dilations,
            "activation": self.activation,
            "alpha": 0.1,
            "lo": -1.0,
            "hi": 2.0,
        }

    def run(self, isa: str, **more: Any) -> np.ndarray:
        """The convolution by our kernels."""
        d = self.data()
        with kernels.use_isa(isa):
            weights = self.pack()
        return kernels.qconv2d(
            d["q"],
            d["scale"],
            weights,
            d["bias"],
            threads=self.threads,
            **{**self.options(), **more},
        )

    def exact(self) -> tuple[np.ndarray, np.ndarray]:
        """The sums in float64 before bias and activation, and sums of absolute products."""
        d = self.data()
        channels = self.groups * self.icg
        x = d["q"] - float(zero_point(self.signed))
        if self.window is not None:
            x = x * spread(d["scale"], min(self.window, channels), channels)
        sw = d["sw"][:, None, None, None].astype(np.float64)
        if self.weight_window is not None:
            sw = spread(d["sw"], min(self.weight_window, self.icg), self.icg)
        w = d["qw"] * sw
        return convolve(x, w, self), convolve(np.abs(x), np.abs(w), self)


def make_values(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """float32 values of one kind; each is a hard case of its own."""
    x = rng.standard_normal(shape, np.float32)
    if kind == "zeros":
        x *= rng.random((*shape[:-1], 1)) < 0.5
    elif kind == "saturating":
        x = np.full(shape, 3.0, np.float32)
    elif kind == "denormal":
        x *= np.float32(1e-39)
    elif kind == "wide":
        x *= np.float32(2.0) ** rng.integers(-30, 30, shape).astype(np.float32)
    elif kind == "huge":
        x = np.clip(x, -3, 3) * np.float32(1e38)
    return x


VALUES = ("normal", "zeros", "saturating", "denormal", "wide")
ACTIVATIONS = ("none", "relu", "clip", "leaky", "hardswish", "silu", "gelu")


SIGNS = st.booleans() | st.integers(1, 127)


@st.composite
def conv_cases(draw: st.DrawFn, depthwise: bool = False, windows: bool = True) -> ConvCase:
    """Convolutions with tails in every direction; without windows: mode C."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    icg = 1 if depthwise else draw(st.integers(1, 70))
    groups = draw(st.integers(2, 70)) if depthwise else draw(st.sampled_from((1, 1, 2, 3, 5)))
    ocg = 1 if depthwise else draw(st.integers(1, 70))
    weight_window = draw(st.none() | st.integers(1, icg + 1)) if windows else None
    plain = windows and (groups == 1 or icg > 1 or ocg > 1)
    return ConvCase(
        seed=draw(st.integers(0, 2**32 - 1)),
        n=draw(st.integers(1, 2)),
        size=draw(st.tuples(st.integers(5, 9), st.integers(5, 12))),
        groups=groups,
        icg=icg,
        ocg=ocg,
        kernel=draw(pair),
        strides=draw(pair),
        pads=draw(st.tuples(*[st.integers(0, 2)] * 4)),
        dilations=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        window=draw(st.integers(1, groups * icg + 3)) if windows else None,
        weight_window=weight_window,
        signed=draw(SIGNS if plain else st.booleans()),
        fine=windows and weight_window is None and draw(st.booleans()),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        values=draw(st.sampled_from(VALUES)),
        threads=draw(st.integers(1, 2)),
    )
