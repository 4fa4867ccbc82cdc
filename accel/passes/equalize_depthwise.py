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
from accel.errors import AccelError
from accel.host import open_session, typed_errors
from accel.passes.pink_images import pink_images

IMAGES = 4
FREE_SIDE = 224  # of an input whose size is free
MAX_PIXELS = 1 << 21  # of an image; larger ones are not worth the time
LARGEST = 6.0  # log2 of a factor: noise may leave a channel empty that photographs fill

Array = np.ndarray[Any, Any]


class Link(NamedTuple):
    """A convolution and the depthwise one that alone reads its output."""

    first: ir.Node
    depthwise: ir.Node


def equalize_depthwise(model: ir.Model) -> ir.Model:
    """Equalize in place; a network that is no image network, or cannot be run, stays as it is."""
    links = _links(model.graph)
    amplitudes = _amplitudes(model, [link.depthwise.inputs[0] for link in links]) if links else []
    for link, amplitude in zip(links, amplitudes, strict=False):
        _scale(model.graph, link, _factors(amplitude))
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


def _amplitudes(model: ir.Model, values: list[ir.Value | None]) -> list[Array]:
    """Largest absolute value of each channel of some values (N, C, H, W) over noise."""
    inputs = g.data_inputs(model.graph)
    images = _inputs(inputs[0]) if len(inputs) == 1 else None
    if images is None:
        return []
    proto = ir.to_proto(model)
    del proto.graph.output[:]
    proto.graph.output.extend(ir.to_proto(ir.Value(name=v.name, type=ir.TensorType(
        ir.DataType.FLOAT))) for v in values if v is not None)  # fmt: skip
    found: list[Array] = []
    try:
        session = open_session(proto.SerializeToString(), 1, "amplitudes")
        with typed_errors():
            for image in images:
                outputs = session.run(None, {inputs[0].name: image})
                sizes = [np.abs(y).max(axis=(0, 2, 3)) for y in outputs]
                found = [np.maximum(*pair) for pair in zip(found or sizes, sizes, strict=True)]
    except AccelError:  # compiling it will say why
        return []
    return found


def _inputs(value: ir.Value) -> list[Array] | None:
    """Noise of the shape and type of an image input, one image each; None for other inputs."""
    shape = g.shape_of(value)
    if shape is None or len(shape) != 4 or value.dtype not in (
        ir.DataType.UINT8, ir.DataType.FLOAT
    ):  # fmt: skip
        return None
    first = value.dtype == ir.DataType.FLOAT  # channels
    channels = shape[1] if first else shape[3]
    height, width = (side or FREE_SIDE for side in (shape[2:] if first else shape[1:3]))
    batch = shape[0] or 1
    if not channels or channels > 4 or not 0 < batch * height * width <= MAX_PIXELS:
        return None
    images = pink_images(IMAGES, height, width, channels)
    if first:
        images = (images / np.float32(255)).transpose(0, 3, 1, 2)
    return [np.ascontiguousarray(np.repeat(image[None], batch, axis=0)) for image in images]


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
