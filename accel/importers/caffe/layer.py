"""One layer of a Caffe network while it is lowered, and the blobs between layers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import ModelError
from accel.importers.builder import MAX_ELEMENTS
from accel.importers.caffe.schema import layer_type

if TYPE_CHECKING:
    from accel.importers.caffe.network import Network

MAX_RANK = 8
MAX_SIDE = 1 << 16  # of a kernel, stride, pad or dilation

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Blob:
    """A value of the network: its name in the graph and its shape, all dimensions known."""

    value: str
    shape: tuple[int, ...]


class Layer:
    """One layer while it is lowered: its parameters, inputs and weights, and the graph so far.

    Attributes
    ----------
    inputs : the bottoms. weights : the blobs of the .caffemodel.
    """

    def __init__(
        self, net: Network, message: Any, inputs: list[Blob], weights: list[Array]
    ) -> None:
        self.net, self.message, self.inputs, self._weights = net, message, inputs, weights
        self.name, self.type = str(message.name), layer_type(message)
        self.tops = len(message.top)

    @property
    def x(self) -> Blob:
        """The first input."""
        if not self.inputs:
            raise self.error("has no bottom; expected at least one")
        return self.inputs[0]

    def parameters(self, field: str) -> Any:
        """The message of parameters ``<field>_param``, its defaults where it is absent."""
        return getattr(self.message, f"{field}_param")

    def error(self, text: str) -> ModelError:
        """A ModelError that names this layer."""
        return ModelError(f"model {self.net.source!r}: layer {self.name!r} ({self.type}) {text}")

    def weight(self, index: int, shape: tuple[int, ...]) -> Array:
        """A weight blob in the shape that the parameters ask for; leading ones do not count."""
        if index >= len(self._weights):
            raise self.error(
                f"needs weight blob {index}, and the .caffemodel has {len(self._weights)} for it; "
                "check that prototxt and caffemodel belong together"
            )
        array = self._weights[index]
        if _without_leading_ones(array.shape) != _without_leading_ones(shape):
            raise self.error(
                f"needs a weight of shape {shape}, and the .caffemodel has {array.shape}; "
                "check that prototxt and caffemodel belong together"
            )
        return array.reshape(shape)

    def axis(self, axis: int, shape: tuple[int, ...] | None = None) -> int:
        """An axis of the first input, counted from the front."""
        rank = len(self.x.shape if shape is None else shape)
        if not -rank <= axis < rank:
            raise self.error(f"has axis {axis}; its input has {rank} dimensions")
        if axis % rank == 0:
            self.net.fixed_batch = True
        return axis % rank

    def constant(self, array: Array, suffix: str) -> str:
        """Add a constant of this layer."""
        return self.net.graph.constant(array, f"{self.name}/{suffix}")

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of this layer."""
        return self.net.graph.node(op_type, inputs, self.name or self.type, **attributes)

    def image(self) -> Blob:
        """The first input, checked to be (N, C, H, W)."""
        if len(self.x.shape) != 4:
            raise self.error(f"has an input of shape {self.x.shape}; expected (N, C, H, W)")
        return self.x

    def channels(self) -> int:
        """Channels of the first input."""
        if len(self.x.shape) < 2:
            raise self.error(f"has an input of shape {self.x.shape}; expected (N, C, ...)")
        return self.x.shape[1]

    def sides(self, name: str, pair: list[int], least: int) -> list[int]:
        """Two sides of a kernel, stride, pad or dilation, checked."""
        if len(pair) != 2 or any(not least <= v <= MAX_SIDE for v in pair):
            raise self.error(f"has {name} {pair}; expected two values in {least}..{MAX_SIDE}")
        return pair

    def affine(self, value: str, factor: float, shift: float) -> str:
        """value * factor + shift, without what changes nothing."""
        if factor != 1:
            value = self.emit("Mul", value, self.constant(np.array(factor, np.float32), "factor"))
        if shift != 0:
            value = self.emit("Add", value, self.constant(np.array(shift, np.float32), "shift"))
        return value

    def same(self, value: str) -> list[Blob]:
        """The layer's only output, of the shape of the first input."""
        return [Blob(value, self.x.shape)]

    def result(self, value: str, *shape: int) -> list[Blob]:
        """The layer's only output, its shape checked."""
        return [Blob(value, self.checked(shape))]

    def checked(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape, where it is positive and of a size that can be held."""
        if len(shape) > MAX_RANK or any(d < 1 for d in shape) or prod(shape) > MAX_ELEMENTS:
            raise self.error(
                f"would give shape {shape}; expected positive sizes and at most "
                f"{MAX_ELEMENTS} elements"
            )
        return shape

    def reshape(self, x: Blob, shape: tuple[int, ...]) -> list[Blob]:
        """Another shape of the same elements; the batch stays free where it stays in front."""
        self.checked(shape)
        if prod(shape) != prod(x.shape):
            raise self.error(f"cannot turn shape {x.shape} into {shape}")
        target = list(shape)
        if shape and x.shape and shape[0] == x.shape[0]:
            target[0] = 0  # ONNX: as in the input
        else:
            self.net.fixed_batch = True
        wanted = self.constant(np.array(target, np.int64), "shape")
        return [Blob(self.emit("Reshape", x.value, wanted), shape)]


def _without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    dims = list(shape)
    while dims and dims[0] == 1:
        dims.pop(0)
    return tuple(dims)


def choice(parameters: Any, field: str) -> str:
    """Name of the value of an enum field."""
    values = parameters.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return str(values[getattr(parameters, field)].name)
