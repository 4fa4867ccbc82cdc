"""OpenVINO's frontends: a file of TensorFlow, TFLite or TorchScript to an openvino.Model, and that
operator by operator to a graph.

The frontends have already moved the layout changes of channels last out of the network. What is
constant is folded here; shapes that OpenVINO knows become constants.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from accel.errors import DeviceError, ModelError, UnsupportedError
from accel.importers.builder import MAX_ELEMENTS, GraphBuilder
from accel.importers.openvino.folds import FOLDS
from accel.importers.openvino.operator import TYPES, Operator
from accel.importers.openvino.operators import OPERATORS
from accel.passes.fold_affine import fold_affine

Array = np.ndarray[Any, Any]


def load_openvino(kind: str) -> Any:
    """The openvino package.

    Raises
    ------
    DeviceError
        Not installed.
    """
    try:
        import openvino
    except ImportError:
        raise DeviceError(
            f"{kind} files need OpenVINO's frontends, which are not installed; "
            "pip install 'lwaccel[openvino]'"
        ) from None
    return openvino


def read_with_frontend(path: Path, kind: str) -> ir.Model:
    """Read a file through the frontend that OpenVINO chooses for it.

    Raises
    ------
    ModelError
        Truncated, corrupt, or not of this format.
    UnsupportedError
        An operator that is not known.
    DeviceError
        OpenVINO is not installed.
    """
    openvino = load_openvino(kind)
    try:
        model = openvino.Core().read_model(path)
    except (RuntimeError, ValueError, TypeError, OSError) as err:
        raise unreadable(path, kind, err) from None
    return lower_openvino(model, str(path))


def unreadable(path: Path | str, kind: str, err: BaseException) -> ModelError:
    """The error for a file that a frontend refuses."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception from")]
    reason = " ".join(told)[:300] or type(err).__name__
    return ModelError(
        f"cannot read {str(path)!r}: not a {kind} model, damaged, or with operators that OpenVINO "
        f"does not know: {reason}"
    )


def lower_openvino(model: Any, source: str) -> ir.Model:
    """Lower an openvino.Model.

    Raises
    ------
    UnsupportedError
        An operator that is not known; it is named.
    ModelError
        No input or output, or a tensor that is too large.
    """
    try:
        return fold_affine(_Lowering(model, source).build())
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as err:
        if isinstance(err, (ModelError, UnsupportedError)):
            raise
        raise ModelError(
            f"model {source!r} cannot be lowered ({type(err).__name__}: {err})"
        ) from None


class _Lowering:
    """The graph so far, with what each output of each OpenVINO node has become."""

    def __init__(self, model: Any, source: str) -> None:
        self._model, self._source = model, source
        self._graph = GraphBuilder(source)
        self._values: dict[tuple[str, int], str] = {}
        self._constants: dict[tuple[str, int], Array] = {}

    def build(self) -> ir.Model:
        for node in self._model.get_parameters():
            self._add_input(node)
        for node in self._model.get_ordered_ops():
            kind = node.get_type_name()
            if kind == "Constant":
                self._add_constant(node)
            elif kind not in ("Parameter", "Result"):
                self._lower(node, kind)
        results = self._model.get_results()
        for i, node in enumerate(results):
            value = self._value(node.input(0).get_source_output())
            dtype = TYPES[node.get_output_element_type(0).get_type_name()]
            self._graph.output(_output_name(node, i, len(results)), value, dtype)
        return self._graph.build()

    def _add_input(self, node: Any) -> None:
        output = node.output(0)
        names = output.get_names()
        name = self._graph.unique(min(names) if names else node.get_friendly_name())
        shape = output.get_partial_shape()
        if shape.rank.is_dynamic:
            raise ModelError(f"model {self._source!r}: input {name!r} has no known rank")
        dims: list[int | str | None] = []
        for i, d in enumerate(shape):
            dims.append(d.get_length() if d.is_static else f"{name}_{i}" if i else "N")
        dtype = self._dtype(node, output)
        self._values[_key(output)] = self._graph.input(name, dims, dtype)

    def _dtype(self, node: Any, output: Any) -> int:
        name = output.get_element_type().get_type_name()
        if name not in TYPES:
            raise UnsupportedError(
                f"model {self._source!r}: {node.get_type_name()} {node.get_friendly_name()!r} is "
                f"of type {name}, which is not known"
            )
        return TYPES[name]

    def _add_constant(self, node: Any) -> None:
        self._dtype(node, node.output(0))
        if prod(node.output(0).get_shape()) > MAX_ELEMENTS:
            raise ModelError(
                f"model {self._source!r}: constant {node.get_friendly_name()!r} has shape "
                f"{list(node.output(0).get_shape())}; at most {MAX_ELEMENTS} elements"
            )
        self._constants[_key(node.output(0))] = np.array(node.data)

    def _lower(self, node: Any, kind: str) -> None:
        sources = [i.get_source_output() for i in node.inputs()]
        arrays = [self._constants.get(_key(s)) for s in sources]
        operator = Operator(self._graph, node, arrays, lambda i: self._value(sources[i]))
        if kind in FOLDS and all(a is not None for a in arrays):
            folded = FOLDS[kind](operator)
            if folded is not None:
                self._constants[_key(node.output(0))] = folded
                return
        if kind not in OPERATORS:
            raise UnsupportedError(
                f"model {self._source!r}: operator {node.get_friendly_name()!r} has type "
                f"{kind!r}, which is not known; convert the model to ONNX with its own framework"
            )
        made = OPERATORS[kind](operator)
        for output, value in zip(node.outputs(), [made] if isinstance(made, str) else made,
                                 strict=False):  # fmt: skip
            self._values[_key(output)] = value

    def _value(self, output: Any) -> str:
        key = _key(output)
        if key not in self._values and key in self._constants:
            self._values[key] = self._graph.constant(self._constants[key], key[0])
        if key not in self._values:
            raise UnsupportedError(f"model {self._source!r}: output {key[1]} of {key[0]!r} is read")
        return self._values[key]


def _key(output: Any) -> tuple[str, int]:
    return output.get_node().get_name(), output.get_index()


def _output_name(result: Any, index: int, count: int) -> str:
    names = result.input(0).get_source_output().get_names()
    friendly = str(result.get_friendly_name())
    if names:
        return friendly if friendly in names else str(min(names))
    return "output" if count == 1 else f"output{index}"
