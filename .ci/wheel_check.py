"""Use the installed package as its user would; the only argument is the repository to keep out."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import accel
from accel.demo import digits_model

AGREEMENT = 0.99


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    for package in ("accel", "spark_bridge"):  # the latter without Spark: found, not imported
        spec = find_spec(package)
        if spec is None or root in Path(str(spec.origin)).resolve().parents:
            sys.exit(f"{package} must come from the wheel, not from {spec}")
    model = digits_model()
    x = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 1), dtype=np.uint8)
    expected = accel.device("onnxruntime").compile(model).run(x)
    found = accel.device("cpu").compile(model.quantize(), batch_size=8).run(x)
    same = float(np.mean(found.argmax(1) == expected.argmax(1)))
    if same < AGREEMENT:
        sys.exit(f"cpu agrees with fp32 on {same:.1%} of 200 images of noise, expected 99 %")
    print(f"the wheel works: cpu agrees with fp32 on {same:.1%} of 200 images of noise")


main()
