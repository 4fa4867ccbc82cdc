"""A dense convolution and the depthwise one behind it: as two steps, and as one, in turns.

    .venv/bin/python bench/pairs.py                          # layers of small networks, one thread
    .venv/bin/python bench/pairs.py --only leaky --threads 2

The results of both are compared once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from networks import caption

from accel import kernels

ROUNDS, ALPHA, LIMIT = 25, 0.1, 6.0


class Shape(NamedTuple):
    """1x1 from `ic` to `oc` channels, then 3x3 of each at a stride."""

    size: int
    ic: int
    oc: int
    stride: int
    activation: str

    def __str__(self) -> str:
        return f"{self.ic} to {self.oc} at {self.size}, stride {self.stride}, {self.activation}"


SHAPES = [
    Shape(112, 16, 96, 2, "clip"),
    Shape(56, 24, 144, 1, "clip"),
    Shape(56, 24, 144, 1, "leaky"),
    Shape(28, 32, 192, 1, "clip"),
    Shape(14, 96, 576, 1, "clip"),
    Shape(7, 160, 960, 1, "clip"),
    Shape(160, 8, 24, 2, "leaky"),
    Shape(40, 16, 96, 1, "leaky"),
    Shape(20, 128, 128, 1, "relu"),
]


def pair(shape: Shape, threads: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Both forms."""
    rng, pool = np.random.default_rng(0), kernels.Pool(threads)
    size, ic, oc, stride, activation = shape
    image = (1, size, size)
    src = kernels.QTensor((*image, ic), min(ic, 128), True)
    kernels.Quantize(rng.standard_normal((*image, ic), np.float32), src, pool)()
    signed = activation == "leaky"
    weights = kernels.pack_weights(
        rng.integers(-127, 128, (oc, 1, 1, ic)).astype(np.int8),
        np.full(oc, 1 / (60 * ic**0.5), np.float32), src.window, signed=True,
    )  # fmt: skip
    taps = kernels.pack_weights(
        rng.integers(-127, 128, (oc, 3, 3, 1)).astype(np.int8), np.full(oc, 1 / 300, np.float32),
        32, signed=signed, groups=oc,
    )  # fmt: skip
    then: dict[str, Any] = {"activation": activation, "alpha": ALPHA, "lo": 0.0, "hi": LIMIT}
    behind = {**then, "strides": (stride, stride), "pads": (1, 1, 1, 1), "pool": pool}
    between = kernels.QTensor((*image, oc), min(oc, 32), signed, (1, 1, 1, 1))
    out = (size - 1) // stride + 1
    ends = [kernels.QTensor((1, out, out, oc), min(oc, 64), signed) for _ in "ab"]
    first = kernels.Conv(src, weights, dst_q=between, pool=pool, **then)
    second = kernels.Conv(between, taps, dst_q=ends[0], **behind)
    one = kernels.Conv(kernels.Dense(src, weights, **then), taps, dst_q=ends[1], **behind)

    def two() -> None:
        first()
        second()

    two()
    one()
    want, got = (e.q.astype(float) * np.repeat(e.scale, e.window, 3)[..., :oc] for e in ends)
    if signed:
        want, got = (v - 128 * np.repeat(e.scale, e.window, 3)[..., :oc]
                     for v, e in zip((want, got), ends, strict=True))  # fmt: skip
    assert np.linalg.norm(want - got) < 0.02 * np.linalg.norm(want)
    return two, one


def microseconds(run: Callable[[], None], repeats: int = 4) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return 1e6 * (time.perf_counter() - start) / repeats


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="a part of a row's name")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print("| layers | two steps, us | one, us | ratio |\n|---|---|---|---|")
    for shape in SHAPES:
        if options.only in str(shape):
            runs = pair(shape, options.threads)
            times = np.array([[microseconds(run) for run in runs] for _ in range(ROUNDS)])
            two, one = np.min(times, axis=0)
            ratio = np.median(times[:, 0] / times[:, 1])
            print(f"| {shape} | {two:.1f} | {one:.1f} | {ratio:.2f} |", flush=True)
    print(f"\n{options.threads} thread(s); best of {ROUNDS} turns, median ratio; {caption()}")


if __name__ == "__main__":
    main()
