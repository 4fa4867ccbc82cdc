"""Write handwriting as image files, a folder for each digit: ``digits/7/0123.png``.

    python examples/digit_files.py digits --count 200

The other examples read such a folder where no other is given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from accel.demo import digits_test


def write_digits(folder: str | Path, count: int, odd_or_even: bool = False) -> None:
    """Write the first `count` digits that training never saw.

    Parameters
    ----------
    odd_or_even : name the folders so, instead of by the digit.
    """
    images, labels = digits_test()
    for i, (image, label) in enumerate(zip(images[:count], labels[:count].tolist(), strict=True)):
        name = ("even", "odd")[label % 2] if odd_or_even else str(label)
        target = Path(folder, name)
        target.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target / f"{i:04d}.png"), image)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=901)
    options = parser.parse_args()
    write_digits(options.folder, options.count)
