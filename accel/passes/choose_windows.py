"""Choose each tensor's activation window from 32, 64 and 128 without any data.

A window's rounding noise grows with the square of its largest value. How large the values of a
channel tend to be is estimated from the weights alone: batch-norm parameters where they exist,
else the second moment carried through the graph. The noise that reaches the consumer's output is
then estimated for each candidate, and the largest window is taken whose noise stays within
`TOLERANCE` of that of the smallest: even channels get long, cheap windows, uneven ones short. Long
sums allow for more noise: it hardly reaches the network's output (docs/design.md has figures).

The parts of a concatenation are written straight into the windows of the whole, so these end where
the parts end.

An image of at most three channels, which the network gets from outside, has one scale: windows of
three values would be cut at every kernel tap, and image data are even by nature.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.errors import ModelError
from accel.passes.keep_int8 import dequantized
from accel.passes.quantize_weights import weight_axes

CANDIDATES = (32, 64, 128)
TOLERANCE = 1.25  # noise power, 1.25 = 1 dB
MANY_CHANNELS, TOLERANCE_OF_MANY = 256, 3.0  # where a short window costs most and gains least
SAMPLES = 64
WINDOW_OF_TWO = 64  # of a product of two activations, along K
WHOLE_IMAGE = 0
MAX_IMAGE_CHANNELS = 3
WINDOW_KEY = "lwaccel.window"
MAX_WINDOW = 512  # an int32 sum over 512 products is still exact in float32

Array = np.ndarray[Any, Any]

_SAME_CHANNELS = {
    "Relu": 0.5, "Clip": 0.5, "LeakyRelu": 0.5, "HardSwish": 0.5, "PRelu": 0.5, "Sigmoid": 1.0,
    "MaxPool": 1.0, "AveragePool": 1.0, "GlobalAveragePool": 1.0, "Resize": 1.0, "Dropout": 1.0,
    "Identity": 1.0, "LRN": 1.0, "BatchNormalization": 1.0,
}  # fmt: skip


def choose_windows(model: ir.Model, window: int | None) -> ir.Model:
    """Record the window of every product node's input in the node's metadata.

    Parameters
    ----------
    window : the window for every tensor; None chooses each from `CANDIDATES`, or `WHOLE_IMAGE`.
    """
    power = {} if window is not None else _channel_power(model)
    consumers: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        x = node.inputs[0] if node.inputs else None
        if x is not None and weight_axes(node) is not None and _weight(node) is not None:
            consumers.setdefault(x.name or "", []).append(node)
    inputs = {v.name for v in model.graph.inputs}
    joints = _joints(model)
    for name, nodes in consumers.items():
        if window is not None:
            chosen = window
        elif name in inputs and _are_images(nodes):
            chosen = WHOLE_IMAGE
        else:
            chosen = _choose(nodes, power.get(name), joints.get(name, 0))
        for node in nodes:
            node.metadata_props[WINDOW_KEY] = str(chosen)
    for node in model.graph:
        if is_activation_product(node):
            node.metadata_props[WINDOW_KEY] = str(window or WINDOW_OF_TWO)
    return model


def is_activation_product(node: ir.Node) -> bool:
    """Whether a node multiplies two activations, neither of which is stored in the model."""
    factors = node.inputs[:2]
    if not g.is_op(node, "MatMul", "Gemm") or len(factors) < 2 or len(node.inputs) > 2:
        return False
    return all(
        v is not None and g.constant(v) is None and not g.is_op(v.producer(), "DequantizeLinear")
        for v in factors
    )


def window_of(node: ir.Node) -> int | None:
    """The recorded window of a node's input, `WHOLE_IMAGE` too; None if there is none.

    Raises
    ------
    ModelError
        Not a number in 0..512, or `WHOLE_IMAGE` where the input is no image of few channels.
    """
    text = node.metadata_props.get(WINDOW_KEY)
    if text is None:
        return None
    window = int(text) if text.isdecimal() and len(text) < 4 else -1
    if window == WHOLE_IMAGE and not _are_images([node]):
        window = -1
    if not 0 <= window <= MAX_WINDOW:
        raise ModelError(
            f"node {node.name!r}: its window is recorded as {text!r}; expected 1..{MAX_WINDOW}, or "
            f"{WHOLE_IMAGE} for an input image of at most {MAX_IMAGE_CHANNELS} channels; "
            "quantize the float32 model again"
        )
    return window


def _weight(node: ir.Node) -> Array | None:
    value = node.inputs[1]
    weight = g.constant(value)
    if weight is None and value is not None:
        return dequantized(value.producer())
    return weight if weight is not None and weight.dtype == np.float32 else None


def _are_images(nodes: list[ir.Node]) -> bool:
    """Whether all readers convolve 2-D images of few channels, ungrouped."""
    return all(
        g.is_op(node, "Conv")
        and g.attribute(node, "group", 1) == 1
        and len(shape := _weight_shape(node)) == 4
        and shape[1] <= MAX_IMAGE_CHANNELS
        for node in nodes
    )


def _weight_shape(node: ir.Node) -> tuple[int, ...]:
    """Shape of a weight, of a stored one that of its levels; () where it is unknown."""
    value = node.inputs[1]
    maker = value.producer() if value is not None else None
    if maker is not None and g.is_op(maker, "DequantizeLinear"):
        value = maker.inputs[0]
    return (g.known_shape(value) if value is not None else None) or ()


def _joints(model: ir.Model) -> dict[str, int]:
    """Of every concatenation by channel: a common divisor of the channels of all parts but one."""
    found: dict[str, int] = {}
    if not any(g.is_op(node, "Concat") for node in model.graph):
        return found
    for node in g.infer_shapes(model).graph:
        if g.is_op(node, "Concat") and g.attribute(node, "axis", 0) == 1:
            shapes = [g.shape_of(v) or (None, None) for v in node.inputs[:-1]]
            found[node.outputs[0].name or ""] = gcd(*(shape[1] or 0 for shape in shapes))
    return found


def _choose(nodes: list[ir.Node], power: Array | None, joint: int) -> int:
    """`joint`: windows must divide it."""
    gains = [_input_gain(node) for node in nodes]
    channels = max(len(gain) for gain in gains)
    gain = np.sum([x for x in gains if len(x) == channels], axis=0)
    sizes = np.sqrt(power) if power is not None and len(power) == channels else np.ones(channels)
    rng = np.random.default_rng(0)  # seeded: the choice is a function of the weights
    sample = np.abs(rng.standard_normal((SAMPLES, channels))) * sizes
    noise = {w: _noise(sample, gain, w) for w in CANDIDATES}
    long = channels >= MANY_CHANNELS and all(g.attribute(n, "group", 1) == 1 for n in nodes)
    most = (TOLERANCE_OF_MANY if long else TOLERANCE) * noise[CANDIDATES[0]]
    best = CANDIDATES[0]
    for candidate in CANDIDATES[1:]:
        quiet = noise[candidate] <= most
        if channels > best and quiet and joint % candidate == 0:
            best = candidate
    return best


def _noise(sample: Array, gain: Array, window: int) -> float:
    starts = np.arange(0, sample.shape[1], window)
    peak = np.maximum.reduceat(sample, starts, axis=1)
    return float((peak**2).mean(axis=0) @ np.add.reduceat(gain, starts))


def _input_gain(node: ir.Node) -> Array:
    """Power with which each input channel reaches the output, (channels,)."""
    weight, axes = _weight(node), weight_axes(node)
    assert weight is not None and axes is not None
    others = tuple(a for a in range(weight.ndim) if a != axes.k)
    groups = g.attribute(node, "group", 1)
    if groups == 1:
        gain: Array = (weight.astype(np.float64) ** 2).sum(axis=others)
        return gain
    grouped = weight.reshape(groups, -1, *weight.shape[1:]).astype(np.float64) ** 2
    gain = grouped.sum(axis=(1, *range(3, grouped.ndim))).reshape(-1)
    return gain


def _channel_power(model: ir.Model) -> dict[str, Array]:
    """Estimated mean square of every channel of every value, as far as it can be told."""
    power: dict[str, Array] = {}
    for node in model.graph:
        found = _node_power(node, power)
        if found is not None:
            power[node.outputs[0].name or ""] = np.maximum(found, 1e-12)
    return power


def _node_power(node: ir.Node, power: dict[str, Array]) -> Array | None:
    inputs = [power.get(v.name or "") if v is not None else None for v in node.inputs]
    if "power" in node.meta:
        known: Array = node.meta["power"]
        return known
    axes = weight_axes(node)
    if axes is not None and _weight(node) is not None:
        return _product_power(node, inputs[0])
    if node.op_type in _SAME_CHANNELS and inputs and inputs[0] is not None:
        return inputs[0] * _SAME_CHANNELS[node.op_type]
    if node.op_type == "Concat" and all(p is not None for p in inputs):
        return np.concatenate([p for p in inputs if p is not None])
    if node.op_type in ("Add", "Sub"):
        known_inputs = [p for p in inputs if p is not None]
        if len(known_inputs) == 2 and len(known_inputs[0]) == len(known_inputs[1]):
            return known_inputs[0] + known_inputs[1]
    if node.op_type == "Flatten":
        return inputs[0]
    return None


def _product_power(node: ir.Node, x: Array | None) -> Array:
    weight, axes = _weight(node), weight_axes(node)
    assert weight is not None and axes is not None
    squared = np.moveaxis(weight.astype(np.float64) ** 2, (axes.channel, axes.k), (0, 1))
    per_k = squared.reshape(*squared.shape[:2], -1).sum(axis=2)
    groups = g.attribute(node, "group", 1)
    k = per_k.shape[1]
    if x is None or len(x) != k * groups:
        x = np.ones(k * groups)
    source = np.repeat(x.reshape(groups, k), per_k.shape[0] // groups, axis=0)
    bias = g.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    extra = np.zeros(len(per_k)) if bias is None else np.broadcast_to(bias.reshape(-1), len(per_k))
    result: Array = (per_k * source).sum(axis=1) + extra.astype(np.float64) ** 2
    return result
