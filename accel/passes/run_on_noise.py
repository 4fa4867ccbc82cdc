"""Run a float network on images of noise, for what its weights alone do not tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper

from accel import graph as g
from accel.errors import AccelError
from accel.host import open_session, typed_errors
from accel.passes.pink_images import pink_images

IMAGES = 4
FREE_SIDE = 224  # of an input whose size is free
MAX_PIXELS = 1 << 21  # of an image; larger ones are not worth the time

Array = np.ndarray[Any, Any]


def run_on_noise(
    model: ir.Model, values: Sequence[ir.Value], summary: Sequence[str]
) -> dict[str, Array]:
    """What operators make of some values, by their names.

    Parameters
    ----------
    values : (N, C, H, W), made by nodes.
    summary : operators of one input, one behind the other, of which the last leaves (N, C, 1, 1).

    Returns
    -------
    (images, C) for each value. Nothing where the network has other inputs than one image, or
    cannot be run: compiling it will say why.
    """
    inputs = g.data_inputs(model.graph)
    images = _images(inputs[0]) if len(inputs) == 1 else None
    names = list(dict.fromkeys(v.name or "" for v in values))
    if images is None or not names:
        return {}
    try:
        session = open_session(_summarized(model, names, summary), 1, "on noise")
        with typed_errors():
            runs = [session.run(None, {inputs[0].name: image}) for image in images]
            return {
                name: np.stack([run[i].reshape(len(run[i]), -1)[0] for run in runs])
                for i, name in enumerate(names)
            }
    except AccelError:
        return {}


def _summarized(model: ir.Model, names: Sequence[str], summary: Sequence[str]) -> bytes:
    """The network with the summaries as its only outputs."""
    proto = ir.to_proto(model)
    del proto.graph.output[:]
    for name in names:
        for op in summary:
            made = f"{name}__{op}"
            proto.graph.node.append(helper.make_node(op, [name], [made]))
            name = made
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    data: bytes = proto.SerializeToString()
    return data


def _images(value: ir.Value) -> list[Array] | None:
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
