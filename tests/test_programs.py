"""Programs: one program for each set of shapes, kept up to a bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net, small_cnn

import accel
from accel.errors import InputError, ModelError


def image(n: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(n).standard_normal((n, 3, 13, 11)).astype(np.float32)


def test_each_batch_size_is_compiled_once_and_gives_the_same_rows() -> None:
    model = accel.load(small_cnn()).quantize()
    programs = accel.Programs(accel.device("cpu"), model, threads=2)
    fixed = accel.device("cpu").compile(model, batch_size=4)
    for n in (1, 5, 1, 3, 5):
        np.testing.assert_array_equal(programs.run(image(n)), fixed.run(image(n)))
    assert len(programs) == 3
    assert programs.program({"image": (5, 3, 13, 11)}).batch_size == 5


def test_the_program_unused_for_longest_goes_first() -> None:
    programs = accel.Programs(accel.device("cpu"), accel.load(small_cnn()).quantize(), keep=2)
    first = programs.program({"image": (1, 3, 13, 11)})
    for n in (2, 1, 3):
        programs.run(image(n))
    assert len(programs) == 2
    assert programs.program({"image": (1, 3, 13, 11)}) is first


def test_images_of_any_size_are_taken_where_the_network_takes_them() -> None:
    net = Net()
    y = net.op("GlobalAveragePool", net.conv("x", 8, 3))
    model = accel.load(net.model({"x": ["N", 3, "H", "W"]}, {y: ["N", 8, 1, 1]}))
    programs = accel.Programs(accel.device("cpu"), model.quantize())
    for size in (8, 21):
        x = np.random.default_rng(0).random((2, 3, size, size + 3)).astype(np.float32)
        expected = accel.Programs(accel.device("onnxruntime"), model).run(x)
        found = programs.run({"x": x})
        assert np.linalg.norm(found - expected) <= 0.02 * np.linalg.norm(expected)  # type: ignore[operator]


def test_wrong_inputs_are_refused() -> None:
    programs = accel.Programs(accel.device("cpu"), accel.load(small_cnn()).quantize())
    with pytest.raises(ModelError, match="expected"):
        programs.run(np.zeros((1, 4, 13, 11), np.float32))
    with pytest.raises(InputError, match="unknown"):
        programs.run({"image": image(1), "other": image(1)})
    with pytest.raises(InputError, match="dtype"):
        programs.run(image(1).astype(np.float64))
    with pytest.raises(InputError, match="keep"):
        accel.Programs(accel.device("cpu"), programs.model, keep=0)
    net = Net()
    y = net.op("Add", "a", "b")
    pair = accel.load(net.model({"a": ["N", 2], "b": ["N", 2]}, {y: ["N", 2]})).quantize()
    with pytest.raises(InputError, match="dict of arrays"):
        accel.Programs(accel.device("cpu"), pair).run(np.zeros((1, 2), np.float32))
