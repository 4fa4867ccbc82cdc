"""What the multipliers alone need for a network: no program with local windows can be faster.

    python bench/bounds.py                                     # every network, one thread
    python bench/bounds.py --only mobilenet --json build/networks.json

A core issues one multiplication of vectors a cycle, be it the dot instruction, four products in
each lane, or one of 16 bits, two, or of floats, one. Dots are those of taps inside the image; a
depthwise layer multiplies in 16 bits. Each window adds a float multiplication to an output, for its
scale, and each output two: its own scale, and its level. No lane is idle here, and loads,
conversions, maxima and additions are free, as if they always ran beside. With the results of
`networks.py` a last column tells the speed-up over the faster int8 engine that is left.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from math import ceil, prod
from pathlib import Path

from networks import caption, networks

import accel
from accel import kernels
from accel.lower import lower
from accel.peak import dot_peak
from accel.schedule import MatMulCall, ProductCall, Schedule

DOT, PAIR, FLOAT = 1, 2, 4  # what a multiplication of each kind costs, in products of a dot
FINISH = 2  # float multiplications that give a level
WINOGRAD = 2 / 3  # of the products of a 3x3 depthwise layer of stride 1


def taps(size: int, made: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Taps inside the image, over all places of one axis."""
    places = (o * stride - pad + k * dilation for o in range(made) for k in range(kernel))
    return sum(0 <= place < size for place in places)


def product(call: ProductCall, schedule: Schedule) -> tuple[float, float]:
    """Cost of the products of a layer, and of its other multiplications."""
    oc, high, wide, depth = (call.shape[0], 1, 1, call.shape[1]) if call.rows else call.shape
    made, source = schedule.shapes[call.y], schedule.shapes[call.x]
    assert made is not None and source is not None
    if call.rows:
        pixels = inside = prod(made[:-1])
    else:
        image, out = source[1:3] if call.border is not None else source[2:4], made[2:4]
        kernel = (high, wide)
        pixels = made[0] * prod(out)
        inside = made[0] * prod(
            taps(image[i], out[i], kernel[i], call.strides[i], call.pads[i], call.dilations[i])
            for i in range(len(out))
        )
    finish = FLOAT * FINISH * pixels * oc
    if call.groups == oc > 1 and depth == 1:
        winograd = (high, wide) == (3, 3) and max(call.strides) == 1
        return PAIR * inside * oc * (WINOGRAD if winograd else 1.0), finish
    windows = 0 if call.window is None else ceil(depth / call.window)
    return DOT * inside * oc * depth, FLOAT * inside * oc * windows + finish


def costs(schedule: Schedule) -> Iterator[tuple[float, float]]:
    """Those of every call that multiplies."""
    for call in schedule.calls:
        if isinstance(call, ProductCall):
            yield product(call, schedule)
        elif isinstance(call, MatMulCall):
            made = schedule.shapes[call.y]
            assert made is not None
            windows = ceil(call.macs / prod(made) / call.window)
            yield DOT * call.macs, FLOAT * prod(made) * (windows + FINISH)


def bound(model: accel.Model, batch: int) -> tuple[float, float]:
    """Milliseconds of one core for the products alone, and for all multiplications."""
    schedule = lower(model.quantize().with_shapes(batch, {}))
    products, others = (sum(column) for column in zip(*costs(schedule), strict=True))
    rate = dot_peak(kernels.isa()) / 1e3
    return products / rate, (products + others) / rate


def fastest(path: Path | None) -> dict[str, float]:
    """Milliseconds of the faster int8 engine, on one thread at batch 1."""
    rows = json.loads(path.read_text()) if path else []
    alone = [r for r in rows if (r["batch"], r["threads"]) == (1, 1)]
    return {
        r["network"]: min(t for e, t in r["ms"].items() if e.endswith("int8") and e != "cpu")
        for r in alone
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="parts of names, comma-separated")
    parser.add_argument("--json", type=Path, help="results of networks.py")
    options = parser.parse_args()
    peers = fastest(options.json)
    print(f"{caption()}\n\n| network | products, ms | all multiplications, ms | speed-up left |")
    print("|---|---|---|---|")
    for name, make in networks(options.only).items():
        products, everything = bound(make(), 1)
        left = f"{peers[name] / everything:.2f}" if name in peers else ""
        print(f"| {name} | {products:.2f} | {everything:.2f} | {left} |", flush=True)


if __name__ == "__main__":
    main()
