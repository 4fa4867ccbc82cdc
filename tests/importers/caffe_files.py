"""Write small Caffe networks: the text as given, weights through a minimal wire writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import accel

Array = np.ndarray[Any, Any]


def varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(array: Array, old: bool = False) -> bytes:
    if old:
        sizes = [1] * (4 - array.ndim) + list(array.shape)
        shape = b"".join(varint(i << 3) + varint(d) for i, d in enumerate(sizes, 1))
    else:
        shape = field(7, field(1, b"".join(varint(d) for d in array.shape)))
    return shape + field(5, array.astype("<f4").tobytes())


def caffemodel(weights: dict[str, list[Array]], old: bool = False) -> bytes:
    name, blobs, layer = (4, 6, 2) if old else (1, 7, 100)
    return field(1, b"net") + b"".join(
        field(
            layer, field(name, key.encode()) + b"".join(field(blobs, blob(a, old)) for a in arrays)
        )
        for key, arrays in weights.items()
    )


def load(
    folder: Path, text: str, weights: dict[str, list[Array]] | None = None, old: bool = False
) -> accel.Model:
    (folder / "net.prototxt").write_text(text)
    (folder / "net.caffemodel").write_bytes(caffemodel(weights or {}, old))
    return accel.load(folder / "net.prototxt")


def net(layers: str, *shapes: tuple[int, ...]) -> str:
    """Network text with inputs x0, x1, ..."""
    inputs = [
        f'input: "x{i}" input_shape {{ {" ".join(f"dim: {d}" for d in shape)} }}'
        for i, shape in enumerate(shapes)
    ]
    return "\n".join([*inputs, layers])


def run(model: accel.Model, *x: Array) -> Any:
    program = accel.device("onnxruntime").compile(model, batch_size=len(x[0]))
    return program.run({f"x{i}": a for i, a in enumerate(x)})


def assert_close(got: Any, want: Array, name: str = "") -> None:
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5, err_msg=name)
