"""Use the installed package as its user would; the only argument is the repository to keep out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import accel
import spark_bridge
from accel.demo import digits_model

AGREEMENT = 0.99


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    for package in (accel, spark_bridge):
        home = Path(str(package.__file__)).resolve()
        if root in home.parents:
            sys.exit(f"{package.__name__} was imported from the repository: {home}")
    model = digits_model()
    x = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 1), dtype=np.uint8)
    expected = accel.device("onnxruntime").compile(model).run(x)
    found = accel.device("cpu").compile(model.quantize(), batch_size=8).run(x)
    same = float(np.mean(found.argmax(1) == expected.argmax(1)))
    if same < AGREEMENT:
        sys.exit(f"cpu agrees with fp32 on {same:.1%} of 200 images of noise, expected 99 %")
    print(f"the wheel works: cpu agrees with fp32 on {same:.1%} of 200 images of noise")


main()
