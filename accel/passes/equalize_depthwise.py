"""Scale the channels that a depthwise convolution reads to one size, without data.

A channel of a depthwise convolution answers for itself: where a window holds a large channel
beside it, its few levels are all that its output has. Behind an activation that a factor passes
through (Relu, LeakyRelu) the factor moves from the depthwise filter into the product before it,
and both keep one scale for each output channel, so their int8 weights stay the same. Factors are
powers of two: the float network stays the same too, bit for bit.

How large each channel is, weights alone tell badly where batch normalization is folded already;
the network is run once on images of noise.
Source: cross-layer equalization of Nagel et al., *Data-Free Quantization*, ICCV 2019.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.passes.run_on_noise import run_on_noise

LARGEST = 6.0  # log2 of a factor: noise may leave a channel empty that photographs fill

Array = np.ndarray[Any, Any]


class Link(NamedTuple):
    """A convolution and the depthwise one that alone reads its output."""

    first: ir.Node
    depthwise: ir.Node


def equalize_depthwise(model: ir.Model) -> ir.Model:
    """Equalize in place; a network that is no image network, or cannot be run, stays as it is."""
    links = _links(model.graph)
    read = [v for link in links if (v := link.depthwise.inputs[0]) is not None]
    amplitudes = run_on_noise(model, read, ("Abs", "GlobalMaxPool"))
    for link, value in zip(links, read, strict=True):
        if value.name in amplitudes:
            _scale(model.graph, link, _factors(amplitudes[value.name].max(axis=0)))
    return g.drop_unused(model)


def _links(graph: ir.Graph) -> list[Link]:
    found = []
    for node in graph:
        weight = _weight(node)
        if weight is None or weight.shape[1] != 1 or g.attribute(node, "group", 1) == 1:
            continue
        first = _behind_activations(node.inputs[0])
        source = None if first is None else _weight(first)
        if (
            first is not None
            and source is not None
            and len(source) == g.attribute(node, "group", 1)
        ):
            found.append(Link(first, node))
    return found


def _weight(node: ir.Node | None) -> Array | None:
    """Constant float weight of a convolution whose bias, if any, is constant too."""
    if node is None or not g.is_op(node, "Conv"):
        return None
    weight = g.constant(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    plain = weight is not None and weight.dtype == np.float32 and weight.ndim == 4
    return weight if plain and (bias is None or g.constant(bias) is not None) else None


def _behind_activations(value: ir.Value | None) -> ir.Node | None:
    """What makes a value but for Relu and LeakyRelu, where nobody else reads it on the way."""
    while value is not None and g.only_consumer(value) is not None:
        node = value.producer()
        if node is None or not g.is_op(node, "Relu", "LeakyRelu"):
            return node
        value = node.inputs[0]
    return None


def _factors(amplitude: Array) -> Array:
    """Powers of two that bring all channels to about the same amplitude."""
    seen = amplitude > np.finfo(np.float32).tiny
    if not seen.any() or not np.isfinite(amplitude).all():
        return np.ones(len(amplitude), np.float32)
    log = np.log2(amplitude.astype(np.float64), where=seen, out=np.full(len(seen), -np.inf))
    steps = np.rint(np.clip(np.median(log[seen]) - log, -LARGEST, LARGEST))
    factors: Array = np.exp2(steps).astype(np.float32)
    return factors


def _scale(graph: ir.Graph, link: Link, factors: Array) -> None:
    weight, filters = _weight(link.first), _weight(link.depthwise)
    assert weight is not None and filters is not None
    _replace(graph, link.first, 1, weight * factors.reshape(-1, 1, 1, 1))
    if len(link.first.inputs) > 2 and link.first.inputs[2] is not None:
        bias = g.constant(link.first.inputs[2])
        _replace(graph, link.first, 2, bias * factors)
    if "power" in link.first.meta:  # what choose_windows reads
        link.first.meta["power"] = link.first.meta["power"] * factors.astype(np.float64) ** 2
    each = np.repeat(factors, len(filters) // len(factors)).reshape(-1, 1, 1, 1)
    _replace(graph, link.depthwise, 1, filters / each)


def _replace(graph: ir.Graph, node: ir.Node, index: int, array: Array) -> None:
    name = f"{node.inputs[index].name}_even"  # type: ignore[union-attr]
    node.replace_input_with(index, g.add_initializer(graph, name, array))
