"""What the multipliers alone need for a network: no program with local windows can be faster.

    python bench/bounds.py                                     # every network, one thread
    python bench/bounds.py --only mobilenet --json build/networks.json

A core issues one multiplication of vectors a cycle, be it the dot instruction, four products in
each lane, or one of 16 bits, two, or of floats, one. Dots are those of taps inside the image, of a
transformed 3x3 layer those of its lines; a depthwise layer multiplies in 16 bits. Each window adds
a float multiplication to an output, for its scale, and each output two: its own scale and, where it
is stored, its level. No lane is idle here, and loads, conversions, maxima and additions are free,
as if they always ran beside. With the results of `networks.py` a last column tells the speed-up
over the faster int8 engine that is left.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from costs import costs
from networks import caption, networks

import accel
from accel import kernels
from accel.lower import lower
from accel.peak import dot_peak


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
