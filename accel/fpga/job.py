"""What a card is asked for: a network as shapes, and the bytes of one image."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from accel import graph as g
from accel.errors import ModelError
from accel.fpga.network import Layer
from accel.fpga.placement import host_operators
from accel.model import Model
from accel.workload import workload_of

IMAGE_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Job:
    """A network as bytes and shapes.

    Attributes
    ----------
    layers : one image's layers
    input_bytes, output_bytes : of one image, as they cross the link: one byte an element
    pixels : of one image, 0 where the input is none
    host_operators, host_seconds : what an engine lacks, and its time on the host for an image
    """

    name: str
    layers: Sequence[Layer]
    input_bytes: int
    output_bytes: int
    pixels: int = 0
    host_operators: Counter[str] = field(default_factory=Counter)
    host_seconds: float = 0.0


def job_of(
    model: Model, shapes: Mapping[str, Sequence[int]] | None = None, dense: bool = True
) -> Job:
    """Return the job of a model, whose weights may be inputs or absent.

    Parameters
    ----------
    shapes : of inputs whose sizes are free in the file, by name
    dense : whether the engine does Gemm and MatMul

    Raises
    ------
    ModelError
        No product has a known shape.
    """
    for spec in model.inputs:
        if None in spec.shape[1:] and spec.name not in (shapes or {}):
            raise ModelError(
                f"model {model.name!r}: the sizes of input {spec.name!r} are free: {spec.shape}; "
                f"give them, as --shape 1,3,224,224, or fix them in the file"
            )
    sized = model.with_shapes(1, shapes)
    layers = workload_of(sized)
    if not layers:
        raise ModelError(
            f"model {model.name!r} has no Conv, Gemm or MatMul of known shape; expected at least "
            f"one: nothing else occupies an engine"
        )
    weights = weight_inputs(sized.graph)
    images = [value for value in g.data_inputs(sized.graph) if value not in weights]
    lacking, seconds = host_operators(sized.graph, dense)
    return Job(
        model.name, layers, _bytes(images), _bytes(sized.graph.outputs), _pixels(images), lacking,
        seconds,
    )  # fmt: skip


def weight_inputs(graph: ir.Graph) -> list[ir.Value]:
    """Inputs that products take as weights: a file stripped of its weights has such."""
    operands = {v for n in graph if n.op_type in ("Conv", "Gemm") for v in n.inputs[1:]}
    return [value for value in g.data_inputs(graph) if value in operands]


def _bytes(values: Iterable[ir.Value]) -> int:
    shapes = [value.shape for value in values if value.shape is not None]
    return max(1, sum(math.prod(d for d in shape if isinstance(d, int)) for shape in shapes))


def _pixels(images: Sequence[ir.Value]) -> int:
    """Rows times columns of an image of few channels, channels first or last."""
    shape = g.known_shape(images[0]) if images else None
    if shape is None or len(shape) != 4:
        return 0
    if shape[1] in IMAGE_CHANNELS:
        return shape[2] * shape[3]
    return shape[1] * shape[2] if shape[3] in IMAGE_CHANNELS else 0
