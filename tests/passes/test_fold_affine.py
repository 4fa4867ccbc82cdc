"""fold_affine on the smallest graphs: what folds gives the same values, the rest stays."""

from __future__ import annotations

import networks
import numpy as np
import pytest

import accel
from accel.model import Model
from accel.passes.fold_affine import fold_affine


def build(
    shape: tuple[int, ...], op_type: str, swapped: bool = False, twice: bool = False
) -> bytes:
    """Conv, then an operator with a constant of this shape; `twice` lets another node read it."""
    net = networks.Net()
    y = net.conv("x", 6, 4, bias=False)
    c = net.constant("c", net.rng.random(shape).astype(np.float32) + 0.5)
    z = net.op(op_type, *((c, y) if swapped else (y, c)))
    if twice:
        z = net.op("Add", z, y)
    net.op("Relu", z)
    net.nodes[-1].output[0] = "y"
    return net.model({"x": ["N", 4, 7, 5]}, {"y": ["N", 6, 5, 3]})


def operators(model: Model) -> list[str]:
    return [node.op_type for node in model.graph().graph]


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (1,), ()])
def test_constant_per_channel_folds(
    op_type: str, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    model = accel.load(build(shape, op_type))
    folded = Model.from_graph(fold_affine(model.graph()), "folded")
    assert operators(folded) == ["Conv", "Relu"]
    x = rng.standard_normal((2, 4, 7, 5)).astype(np.float32)
    got, want = (accel.device("onnxruntime").compile(m).run(x) for m in (folded, model))
    assert isinstance(got, np.ndarray) and isinstance(want, np.ndarray)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "op_type", "swapped", "twice"),
    [((5, 3), "Mul", False, False), ((1, 1, 1, 3), "Add", False, False),
     ((6, 1, 1), "Sub", True, False), ((6, 1, 1), "Mul", False, True)],
)  # fmt: skip
def test_other_constants_stay(
    shape: tuple[int, ...], op_type: str, swapped: bool, twice: bool
) -> None:
    model = accel.load(build(shape, op_type, swapped, twice))
    folded = Model.from_graph(fold_affine(model.graph()), "folded")
    assert operators(folded) == operators(model)
