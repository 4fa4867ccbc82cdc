"""One call of a Keras layer while it is lowered, and the values between layers. Images are channels
last in Keras and channels first in the graph, so a `Tensor` remembers both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel.errors import ModelError, UnsupportedError
from accel.importers.builder import MAX_ELEMENTS, GraphBuilder

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]

MAX_SIDE = 1 << 16  # of a kernel, stride, pad or dilation


@dataclass(frozen=True)
class Tensor:
    """A value: its name in the graph, where images are (N, C, H, W), and its shape in Keras."""

    value: str
    shape: Shape

    @classmethod
    def from_keras(cls, graph: GraphBuilder, value: str, shape: Shape) -> Tensor:
        """A value in Keras's layout."""
        if len(shape) != 4:
            return cls(value, shape)
        return cls(graph.node("Transpose", [value], f"{value}/nchw", perm=[0, 3, 1, 2]), shape)

    def as_keras(self, graph: GraphBuilder) -> str:
        """The name of this value in Keras's layout."""
        if len(self.shape) != 4:
            return self.value
        return graph.node("Transpose", [self.value], f"{self.value}/nhwc", perm=[0, 2, 3, 1])

    @property
    def channels(self) -> int | None:
        return self.shape[-1]

    def stored_axis(self, axis: int) -> int:
        """Where an axis of Keras's layout, counted from the front, lies in the graph."""
        return (0, 2, 3, 1)[axis] if len(self.shape) == 4 else axis


class Layer:
    """One call of a layer while it is lowered."""

    def __init__(
        self,
        graph: GraphBuilder,
        name: str,
        kind: str,
        config: dict[str, Any],
        inputs: list[Tensor],
        weights: list[Array],
        newer: bool,
    ) -> None:
        self.graph, self.name, self.kind, self.config = graph, name, kind, config
        self.inputs, self.weights, self.newer = inputs, weights, newer
        if config.get("data_format", "channels_last") not in ("channels_last", None):
            raise UnsupportedError(f"{self}: data_format {config['data_format']!r}")
        if not inputs:
            raise self.error("has no input")

    def __str__(self) -> str:
        return f"model {self.graph.source!r}: layer {self.name!r} ({self.kind})"

    @property
    def x(self) -> Tensor:
        return self.inputs[0]

    def error(self, text: str) -> ModelError:
        """A ModelError that names this layer."""
        return ModelError(f"{self} {text}")

    def image(self) -> Tensor:
        """The input, checked to be an image."""
        if len(self.x.shape) != 4:
            raise self.error(f"has an input of shape {self.x.shape}; expected (N, H, W, C)")
        return self.x

    def weight(self, index: int, *shape: int) -> Array:
        """A weight, checked against the shape that the configuration asks for."""
        found = self.weights[index].shape if index < len(self.weights) else None
        if found != shape:
            raise self.error(f"needs weight {index} of shape {shape}; the file has {found}")
        return self.weights[index]

    def constant(self, array: Array, suffix: str) -> str:
        return self.graph.constant(array.astype(np.float32), f"{self.name}/{suffix}")

    def ints(self, values: Sequence[int], suffix: str) -> str:
        return self.graph.ints(values, f"{self.name}/{suffix}")

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        return self.graph.node(op_type, inputs, self.name, **attributes)

    def number(self, key: str, default: int, least: int = 1) -> int:
        """An integer of the configuration, checked."""
        value = self.config.get(key, default)
        if type(value) is not int or not least <= value <= MAX_ELEMENTS:
            raise self.error(f"has {key} {value!r}; expected an integer of at least {least}")
        return value

    def pair(self, key: str, default: Any = 1) -> list[int]:
        """Two sides of the configuration, checked."""
        value = self.config.get(key, default)
        value = default if value is None else value
        pair = list(value) if isinstance(value, (list, tuple)) else [value, value]
        if len(pair) != 2 or any(type(v) is not int or not 1 <= v <= MAX_SIDE for v in pair):
            raise self.error(f"has {key} {value!r}; expected two integers in 1..{MAX_SIDE}")
        return pair

    def known_channels(self) -> int:
        """Channels of the input, which must be known."""
        if self.x.channels is None:
            raise self.error(f"has an input of shape {self.x.shape}; its channels must be known")
        return self.x.channels
