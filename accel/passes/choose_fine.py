"""Choose convolutions whose weights get more levels than int8 has, as int16.

- Depthwise ones of few weights: their kernel multiplies 16 bits anyway, and they are the first ones
  of a network.
- Those where a shortcut begins, and those that no shortcut leads around (`find_bridges`): all of
  the network sees their errors. They take two products for each weight, and up to a byte more. The
  more weights they have, the fewer levels they get; a bridge of many multiplications gets none.
"""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from accel import graph as g
from accel.passes.find_bridges import find_bridges

MOST_FACTOR = 16  # times the levels of int8
FEW_WEIGHTS = 1024  # that get as many
FACTORS = ((FEW_WEIGHTS, MOST_FACTOR), (4 * FEW_WEIGHTS, 4), (20 * FEW_WEIGHTS, 2))  # of bridges
SHARE = 0.02  # of the multiplications of a network, at most, is worth doubling
IMAGE_CHANNELS = 4  # of at most so many the input may be raw pixels, which take int8 weights
MOST_TAPS = 32  # of fine depthwise weights: their sums fit in int32


def choose_fine(model: ir.Model) -> dict[ir.Node, int]:
    """How many times the levels of int8 the weights of some convolutions get."""
    nodes = [n for n in model.graph if g.is_op(n, "Conv") and len(_weight_shape(n)) == 4]
    found = {n: MOST_FACTOR for n in nodes if _is_worth_most(n) and fits_fine(n)}
    bridges = find_bridges(model)
    for node in _light(model, [n for n in nodes if n in bridges and n not in found]):
        size = prod(_weight_shape(node))
        factor = next((factor for most, factor in FACTORS if size <= most), None)
        if factor is not None and fits_fine(node):
            found[node] = factor
    return found


def fits_fine(node: ir.Node) -> bool:
    """Whether the kernels run a convolution with int16 weights."""
    shape = _weight_shape(node)
    groups = g.attribute(node, "group", 1)
    if not shape or groups * shape[1] <= IMAGE_CHANNELS:
        return False
    return groups == 1 or shape[1] > 1 or prod(shape[2:]) <= MOST_TAPS


def _is_worth_most(node: ir.Node) -> bool:
    shape = _weight_shape(node)
    if prod(shape) > FEW_WEIGHTS:
        return False
    depthwise = shape[1] == 1 and shape[0] == g.attribute(node, "group", 1)
    return depthwise or _begins_shortcut(node.outputs[0])


def _begins_shortcut(value: ir.Value) -> bool:
    """Whether an addition reads the value, and another node does."""
    readers = [reader for reader, _ in value.uses()]
    return len(readers) > 1 and any(g.is_op(reader, "Add") for reader in readers)


def _light(model: ir.Model, nodes: list[ir.Node]) -> list[ir.Node]:
    """Those of few multiplications, as far as shapes tell."""
    if not nodes:
        return []
    shaped = g.infer_shapes(model).graph
    macs = [_macs(node) for node in shaped]
    most, places = SHARE * sum(macs), {node: i for i, node in enumerate(model.graph)}
    return [node for node in nodes if 0 < macs[places[node]] <= most]


def _macs(node: ir.Node) -> int:
    """Multiplications of a convolution for one image; 0 where they are not known."""
    y = g.shape_of(node.outputs[0]) if g.is_op(node, "Conv") else None
    sides = [side for side in (y or ())[2:] if side is not None]
    return prod(sides) * prod(_weight_shape(node)) if y and len(sides) == len(y) - 2 else 0


def _weight_shape(node: ir.Node) -> tuple[int, ...]:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    return (g.known_shape(value) if value is not None else None) or ()
