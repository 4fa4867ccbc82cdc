"""Find what can run in the epilogue of a product: bias, residual addition, activation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.epilogue import Epilogue

Array = np.ndarray[Any, Any]
INFINITY = float(np.finfo(np.float32).max)


def fuse_epilogue(
    node: ir.Node, claimed: set[ir.Node], has_bias: bool
) -> tuple[Epilogue, list[ir.Node]]:
    """Follow the single reader of each output as long as it can be fused.

    Parameters
    ----------
    node : the product. claimed : nodes that other products took already.
    has_bias : whether the product brings its own bias.
    """
    epilogue, last = Epilogue(), node
    fused: list[ir.Node] = []
    while epilogue.activation == "none":
        for activation, find in (("silu", _gate), ("gelu", _gelu)):
            nodes = find(last.outputs[0])
            if nodes is not None and not claimed & set(nodes):
                return _with(epilogue, activation=activation), [*fused, *nodes]
        reader = g.only_consumer(last.outputs[0])
        if reader is None or reader in claimed:
            break
        found = _absorb(reader, last.outputs[0], epilogue, has_bias)
        if found is None:
            break
        epilogue = found
        fused.append(reader)
        last = reader
    return epilogue, fused


def _absorb(
    reader: ir.Node, value: ir.Value, epilogue: Epilogue, has_bias: bool
) -> Epilogue | None:
    if g.is_op(reader, "Relu"):
        return _with(epilogue, activation="relu")
    if g.is_op(reader, "LeakyRelu"):
        return _with(epilogue, activation="leaky", alpha=g.attribute(reader, "alpha", 0.01))
    if g.is_op(reader, "HardSwish"):
        return _with(epilogue, activation="hardswish")
    if g.is_op(reader, "Gelu") and g.attribute(reader, "approximate", "none") == "none":
        return _with(epilogue, activation="gelu")
    if g.is_op(reader, "Clip") and reader.inputs[0] is value:
        return _clip(reader, epilogue)
    if g.is_op(reader, "Add") and epilogue.residual is None:
        return _add(reader, value, epilogue, has_bias)
    return None


def _gate(value: ir.Value) -> list[ir.Node] | None:
    """The Sigmoid and Mul of ``value * sigmoid(value)``, where nothing else reads either."""
    readers = [node for node, _ in value.uses()]
    sigmoid = next((n for n in readers if g.is_op(n, "Sigmoid")), None)
    if len(readers) != 2 or sigmoid is None or value.is_graph_output():
        return None
    product = g.only_consumer(sigmoid.outputs[0])
    if product is None or product not in readers or not g.is_op(product, "Mul"):
        return None
    return [sigmoid, product]


def _gelu(value: ir.Value) -> list[ir.Node] | None:
    """The nodes of ``value * (1 + erf(value / sqrt(2))) * 0.5``, where nothing else reads any."""
    readers = [node for node, _ in value.uses()]
    ratio = next((n for n in readers if _is_by(n, value, 0.5**0.5)), None)
    if len(readers) != 2 or ratio is None or value.is_graph_output():
        return None
    erf = g.only_consumer(ratio.outputs[0])
    plus = g.only_consumer(erf.outputs[0]) if erf is not None and g.is_op(erf, "Erf") else None
    if erf is None or plus is None or not _adds_one(plus, erf.outputs[0]):
        return None
    product = g.only_consumer(plus.outputs[0])
    half = g.only_consumer(product.outputs[0]) if product is not None else None
    if product is None or product not in readers or not g.is_op(product, "Mul") or half is None:
        return None
    return [ratio, erf, plus, product, half] if _is_by(half, product.outputs[0], 0.5) else None


def _is_by(node: ir.Node, value: ir.Value, factor: float) -> bool:
    """Whether a Mul or Div multiplies a value by this factor, to six digits."""
    if not g.is_op(node, "Mul", "Div"):
        return False
    by = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    number = g.constant(by)
    if number is None or number.size != 1 or (g.is_op(node, "Div") and by is node.inputs[0]):
        return False
    wanted = 1 / factor if g.is_op(node, "Div") else factor
    return abs(float(number.reshape(-1)[0]) - wanted) <= 1e-6 * wanted


def _adds_one(node: ir.Node, value: ir.Value) -> bool:
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    number = g.constant(other)
    return g.is_op(node, "Add") and number is not None and number.size == 1 and (number == 1).all()


def _with(epilogue: Epilogue, **changes: Any) -> Epilogue:
    return Epilogue(**{**epilogue.__dict__, **changes})


def _clip(reader: ir.Node, epilogue: Epilogue) -> Epilogue | None:
    bounds = []
    for i, default in ((1, -INFINITY), (2, INFINITY)):
        value = reader.inputs[i] if len(reader.inputs) > i else None
        bound = g.constant(value)
        if value is not None and (bound is None or bound.size != 1):
            return None
        bounds.append(default if bound is None else float(bound.reshape(-1)[0]))
    if not bounds[0] <= bounds[1]:
        return None
    return _with(epilogue, activation="clip", lo=bounds[0], hi=bounds[1])


def _add(reader: ir.Node, value: ir.Value, epilogue: Epilogue, has_bias: bool) -> Epilogue | None:
    other = reader.inputs[1] if reader.inputs[0] is value else reader.inputs[0]
    shape = g.known_shape(value)
    if other is None or other is value or shape is None:
        return None
    if shape != g.known_shape(reader.outputs[0]):
        return None
    array = g.constant(other)
    if array is None:
        same = g.known_shape(other) == shape and other.dtype == ir.DataType.FLOAT
        return _with(epilogue, residual=other.name) if same else None
    bias = _channel_bias(array, shape, reader, value)
    if bias is None or has_bias or epilogue.bias is not None:
        return None
    return _with(epilogue, bias=bias)


def _channel_bias(
    array: Array, shape: tuple[int, ...], reader: ir.Node, value: ir.Value
) -> Array | None:
    producer = value.producer()
    axis = 1 if g.is_op(producer, "Conv") else len(shape) - 1
    if array.dtype != np.float32 or array.ndim > len(shape):
        return None
    full = (1,) * (len(shape) - array.ndim) + array.shape
    if any(d != 1 for i, d in enumerate(full) if i != axis) or full[axis] not in (1, shape[axis]):
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), shape[axis]))
