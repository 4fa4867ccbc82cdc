"""One node of an openvino.Model while it is lowered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from accel.errors import UnsupportedError
from accel.importers.builder import GraphBuilder

Array = np.ndarray[Any, Any]
Made = str | Sequence[str]

TYPES = {
    "f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16, "f64": TensorProto.DOUBLE,
    "i8": TensorProto.INT8, "i16": TensorProto.INT16, "i32": TensorProto.INT32,
    "i64": TensorProto.INT64, "u8": TensorProto.UINT8, "u16": TensorProto.UINT16,
    "u32": TensorProto.UINT32, "u64": TensorProto.UINT64, "boolean": TensorProto.BOOL,
}  # fmt: skip
NUMPY_TYPES = {
    "f32": "float32", "f16": "float16", "f64": "float64", "i8": "int8", "i16": "int16",
    "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16", "u32": "uint32",
    "u64": "uint64", "boolean": "bool",
}  # fmt: skip


class Operator:
    """One node of an openvino.Model while it is lowered.

    Attributes
    ----------
    arrays : the value of each input that is constant, else None.
    """

    def __init__(
        self,
        graph: GraphBuilder,
        node: Any,
        arrays: Sequence[Array | None],
        value: Callable[[int], str],
    ) -> None:
        self.graph, self.node, self.arrays, self.value = graph, node, arrays, value
        self.name = str(node.get_friendly_name())
        self.attributes: dict[str, Any] = node.get_attributes()

    def __len__(self) -> int:
        return len(self.arrays)

    def unsupported(self, text: str) -> UnsupportedError:
        """An UnsupportedError that names this operator."""
        return UnsupportedError(
            f"model {self.graph.source!r}: operator {self.name!r} "
            f"({self.node.get_type_name()}): {text}"
        )

    def constant(self, index: int) -> Array:
        """An input that must be constant."""
        array = self.arrays[index]
        if array is None:
            raise self.unsupported(f"input {index} must be a constant")
        return array

    def integers(self, index: int) -> list[int]:
        """An input of constant integers."""
        return [int(v) for v in self.constant(index).reshape(-1)]

    def shape(self, index: int = 0) -> tuple[int | None, ...]:
        """Shape of an input, None where it is free."""
        return self._dims(self.node.get_input_partial_shape(index))

    def output_shape(self, index: int = 0) -> tuple[int | None, ...]:
        """Shape of an output."""
        return self._dims(self.node.get_output_partial_shape(index))

    def _dims(self, shape: Any) -> tuple[int | None, ...]:
        if shape.rank.is_dynamic:
            raise self.unsupported("a rank that is not known")
        return tuple(d.get_length() if d.is_static else None for d in shape)

    def dtype(self) -> str:
        """Element type of the output."""
        return str(self.node.get_output_element_type(0).get_type_name())

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns its output."""
        return self.graph.node(op_type, inputs, self.name, **attributes)

    def float(self, value: float) -> str:
        """A float32 scalar."""
        return self.graph.scalar(value, f"{self.name}/scalar")

    def ints(self, values: Sequence[int]) -> str:
        """An int64 vector."""
        return self.graph.ints(values, f"{self.name}/ints")

    def int64(self, index: int) -> str:
        """An input of integers, cast to int64."""
        array = self.arrays[index]
        if array is not None:
            return self.graph.constant(array.astype(np.int64), f"{self.name}/ints")
        return self.emit("Cast", self.value(index), to=TensorProto.INT64)
