"""Operators on elements and channels: arithmetic, activations, normalization."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accel.importers.openvino.operator import TYPES, Made, Operator


def same(op_type: str, *keys: str) -> Callable[[Operator], Made]:
    """An operator that ONNX has too; `keys` are attributes of one name and meaning."""

    def lower(op: Operator) -> Made:
        given = {k: op.attributes[k] for k in keys}
        return op.emit(op_type, *[op.value(i) for i in range(len(op))], **given)

    return lower


def squared_difference(op: Operator) -> Made:
    """(a - b)^2."""
    y = op.emit("Sub", op.value(0), op.value(1))
    return op.emit("Mul", y, y)


def swish(op: Operator) -> Made:
    """x * sigmoid(beta * x)."""
    x = op.value(0)
    inner = op.emit("Mul", x, op.value(1)) if len(op) > 1 else x
    return op.emit("Mul", x, op.emit("Sigmoid", inner))


def gelu(op: Operator) -> Made:
    """x times the normal distribution, exact or by tanh."""
    mode = str(op.attributes.get("approximation_mode", "ERF")).lower()
    return op.emit("Gelu", op.value(0), approximate="tanh" if mode == "tanh" else "none")


def normalize(op: Operator) -> Made:
    """Mean 0 and variance 1 over constant axes."""
    a, x, rank = op.attributes, op.value(0), len(op.shape())
    axes = sorted(axis % rank for axis in op.integers(1))
    sizes = [op.shape()[axis] for axis in axes]
    eps, scaled = float(a["eps"]), bool(a.get("normalize_variance", True))
    inside = "inside" in str(a.get("eps_mode", "inside_sqrt")).lower()
    if scaled and inside and None not in sizes and axes == [*range(rank - len(axes), rank)]:
        ones = op.graph.constant(np.ones([n or 0 for n in sizes], np.float32), f"{op.name}/scale")
        return op.emit("LayerNormalization", x, ones, axis=axes[0], epsilon=eps)
    centred = op.emit("Sub", x, op.emit("ReduceMean", x, op.ints(axes)))
    if not scaled:
        return centred
    variance = op.emit("ReduceMean", op.emit("Mul", centred, centred), op.ints(axes))
    if inside:
        spread = op.emit("Sqrt", op.emit("Add", variance, op.float(eps)))
    else:
        spread = op.emit("Add", op.emit("Sqrt", variance), op.float(eps))
    return op.emit("Div", centred, spread)


def clamp(op: Operator) -> Made:
    """Bounds below and above."""
    if op.dtype() != "f32":
        raise op.unsupported(f"type {op.dtype()}; expected f32")
    low, high = float(op.attributes["min"]), float(op.attributes["max"])
    return op.emit("Clip", op.value(0), op.float(low), op.float(high))


def prelu(op: Operator) -> Made:
    """A slope below zero; one dimension counts channels."""
    rank, slope = len(op.shape(0)), op.constant(1)
    if slope.ndim == 1 and rank > 1:  # per channel
        slope = slope.reshape(-1, *[1] * (rank - 2))
    return op.emit("PRelu", op.value(0), op.graph.constant(slope, f"{op.name}/slope"))


def axis(op: Operator, op_type: str) -> Made:
    """An operator along one axis."""
    return op.emit(op_type, op.value(0), axis=int(op.attributes["axis"]))


def convert(op: Operator) -> Made:
    """Another element type."""
    if op.dtype() not in TYPES:
        raise op.unsupported(f"type {op.dtype()}")
    if op.node.get_input_element_type(0) == op.node.get_output_element_type(0):
        return op.value(0)
    return op.emit("Cast", op.value(0), to=TYPES[op.dtype()])


def fake_quantize(op: Operator) -> Made:
    """round((clip(x) - low) / step) * output step + output low.

    Of 8-bit activations only the bounds are kept, not the rounding: they get local windows of
    their own, and a Clip runs behind the convolution.
    """
    bounds = [op.arrays[i] for i in range(1, 5)]
    scalars = [float(b.reshape(())) for b in bounds if b is not None and b.size == 1]
    if len(scalars) == 4 and op.attributes["levels"] in (255, 256) and not _becomes_integer(op):
        return _bounded(op, *scalars)
    x, low, high, out_low, out_high = (op.value(i) for i in range(5))
    steps = op.float(float(op.attributes["levels"]) - 1)
    y = op.emit("Min", op.emit("Max", x, low), high)
    y = op.emit("Div", op.emit("Sub", y, low), op.emit("Sub", high, low))
    y = op.emit("Div", op.emit("Round", op.emit("Mul", y, steps)), steps)
    return op.emit("Add", op.emit("Mul", y, op.emit("Sub", out_high, out_low)), out_low)


def _bounded(op: Operator, low: float, high: float, out_low: float, out_high: float) -> str:
    y = op.emit("Clip", op.value(0), op.float(low), op.float(high))
    if (low, high) == (out_low, out_high) or low == high:
        return y
    factor = (out_high - out_low) / (high - low)
    y = op.emit("Mul", y, op.float(factor))
    return op.emit("Add", y, op.float(out_low - low * factor))


def _becomes_integer(op: Operator) -> bool:
    """Whether a reader turns the result into integers, for which the rounding counts."""
    readers = [i.get_node() for i in op.node.output(0).get_target_inputs()]
    return any(
        r.get_type_name() == "Convert" and r.get_output_element_type(0).is_integral()
        for r in readers
    )


def batch_norm(op: Operator) -> Made:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta."""
    values = [op.value(i) for i in range(5)]
    return op.emit("BatchNormalization", *values, epsilon=float(op.attributes["epsilon"]))


def lrn(op: Operator) -> Made:
    """Local response normalization over channels."""
    if op.integers(1) != [1]:
        raise op.unsupported(f"axes {op.integers(1)}; expected channels")
    a = {k: float(op.attributes[k]) for k in ("alpha", "beta", "bias")}
    return op.emit("LRN", op.value(0), size=int(op.attributes["size"]), **a)


def hard_sigmoid(op: Operator) -> Made:
    """clip(alpha x + beta, 0, 1)."""
    if len(op) == 1:
        return op.emit("HardSigmoid", op.value(0), alpha=1 / 6, beta=0.5)
    alpha, beta = (float(op.constant(i).reshape(())) for i in (1, 2))
    return op.emit("HardSigmoid", op.value(0), alpha=alpha, beta=beta)


def elu(op: Operator) -> Made:
    """x above zero, alpha (exp(x) - 1) below."""
    return op.emit("Elu", op.value(0), alpha=float(op.attributes["alpha"]))
