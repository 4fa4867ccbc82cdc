"""Helpers on the graph type of the library, `onnx_ir.Model`: read constants and attributes,
fix the batch, infer shapes. Not a graph type of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from accel.align import align_values
from accel.errors import ModelError, UnsupportedError
from accel.tensor_spec import TensorSpec

OPSET = 21  # first opset whose DequantizeLinear has block_size
LARGE_BYTES = 1 << 12  # constants above this are weights, never shapes
MAX_SHAPE_VALUES = 1 << 20  # numbers in all vectors of a graph; more are no shapes
NAMES_KEY = "lwaccel.names"
IR_VERSION = 10  # first IR version whose nodes carry metadata


def from_bytes(data: bytes) -> ir.Model:
    """Parse a serialized ONNX model."""
    return ir.from_proto(onnx.load_from_string(data))


def to_bytes(graph_model: ir.Model, aligned: bool = False) -> bytes:
    """Serialize to ONNX bytes; constants tell their own shapes, once is enough.

    Parameters
    ----------
    aligned : whether values lie so that they compress well.
    """
    try:
        proto = ir.to_proto(graph_model)
    except ir.serde.SerdeError as err:
        message = f"the graph cannot be written: {_cause(err)}; its file is damaged"
        raise ModelError(message) from None
    told = {tensor.name for tensor in proto.graph.initializer}
    infos = [info for info in proto.graph.value_info if info.name not in told]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(infos)
    if aligned:
        align_values(list(proto.graph.initializer))
    data: bytes = proto.SerializeToString()
    return data


def _cause(err: BaseException) -> BaseException:
    """The first of the errors that one error grew from."""
    while err.__cause__ is not None:
        err = err.__cause__
    return err


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The array of an initializer or Constant node, else None."""
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    node = value.producer()
    if node is not None and node.op_type == "Constant" and node.domain == "":
        tensor = node.attributes.get("value")
        if tensor is not None:
            return tensor.as_tensor().numpy()
        for key in ("value_float", "value_floats", "value_int", "value_ints"):
            if key in node.attributes:
                kind = np.float32 if "float" in key else np.int64
                return np.asarray(node.attributes[key].value, dtype=kind)
    return None


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Value of an attribute, or `default` where the node does not carry it."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def shape_of(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """Shape with None for unknown dimensions; None where even the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def known_shape(value: ir.Value) -> tuple[int, ...] | None:
    """Shape when every dimension is known, else None."""
    shape = shape_of(value)
    if shape is None or any(d is None for d in shape):
        return None
    return tuple(d for d in shape if d is not None)


def spec_of(value: ir.Value) -> TensorSpec:
    """The spec of an input or output of a graph."""
    shape = shape_of(value)
    if isinstance(value.type, ir.SequenceType | ir.OptionalType):
        kind = "sequence" if isinstance(value.type, ir.SequenceType) else "optional"
        raise UnsupportedError(
            f"input or output {value.name!r} is of type {kind}; expected a tensor: "
            "split it into tensors before export"
        )
    if value.dtype is None:
        raise ModelError(f"input or output {value.name!r} has no element type")
    return TensorSpec(value.name or "", shape or (), np.dtype(value.dtype.numpy()))


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether the node is one of these standard ONNX operators."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The single node that reads this value, None where there are several or it is an output."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    return next(iter(uses))[0]


def add_initializer(graph: ir.Graph, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """Register a constant under a name that is made unique."""
    taken = _taken(graph)
    unique, n = name, 1
    while unique in taken:
        unique, n = f"{name}_{n}", n + 1
    taken.add(unique)
    value = ir.Value(name=unique, const_value=ir.tensor(array, name=unique))
    value.shape = ir.Shape(array.shape)
    value.dtype = ir.DataType.from_numpy(array.dtype)
    graph.register_initializer(value)
    return value


def names(graph: ir.Graph) -> set[str]:
    """All value names of the graph."""
    found = {v.name for v in graph.inputs} | set(graph.initializers)
    for node in graph:
        found.update(o.name for o in node.outputs)
    return {n for n in found if n}


def _taken(graph: ir.Graph) -> set[str]:
    """Names that were used in the graph so far: looked up once, since that takes all nodes."""
    if NAMES_KEY not in graph.meta:
        graph.meta[NAMES_KEY] = names(graph)
    taken: set[str] = graph.meta[NAMES_KEY]
    return taken


def drop_unused(graph_model: ir.Model) -> ir.Model:
    """Remove nodes and initializers that no output needs."""
    RemoveUnusedNodesPass()(graph_model)
    for name in [n for n, v in graph_model.graph.initializers.items() if not v.uses()]:
        if not graph_model.graph.initializers[name].is_graph_output():
            del graph_model.graph.initializers[name]
    return graph_model


def data_inputs(graph: ir.Graph) -> list[ir.Value]:
    """Graph inputs that a caller must give (no initializer behind them)."""
    return [v for v in graph.inputs if v.name not in graph.initializers]


def fix_shapes(graph_model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> ir.Model:
    """Set the input shapes, forget stale inner ones, and infer the rest.

    Parameters
    ----------
    shapes : every data input's name to its full shape.

    Raises
    ------
    ModelError
        The graph contradicts these shapes.
    """
    for value in data_inputs(graph_model.graph):
        value.shape = ir.Shape(shapes[value.name or ""])
    for node in graph_model.graph:
        for out in node.outputs:
            out.shape = None
    try:
        fixed = _inferred(graph_model, strict=True)
    except Exception as err:
        first = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
        raise ModelError(
            f"shapes of the graph do not fit together for inputs {dict(shapes)}: {first}"
        ) from None
    for node in fixed.graph:
        for out in node.outputs:
            if any(d is not None and d < 0 for d in shape_of(out) or ()):
                raise ModelError(
                    f"shapes of the graph do not fit together for inputs {dict(shapes)}: "
                    f"{node.op_type} {node.name!r} would give {shape_of(out)}; "
                    "the input is too small"
                )
    return fixed


def forget_shapes(graph_model: ir.Model) -> ir.Model:
    """Drop what inference finds again: types and shapes inside the graph."""
    for node in graph_model.graph:
        for out in node.outputs:
            if node.domain in ("", "ai.onnx") and not out.is_graph_output():
                out.shape = out.type = None
    return graph_model


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Let every reader of `old` read `new`; a graph output keeps its name."""
    graph = old.graph
    if graph is not None and old.is_graph_output():
        for i, out in enumerate(graph.outputs):
            if out is old:
                new.name, old.name = old.name, f"{old.name}__replaced"
                new.shape = old.shape
                if old.dtype is not None:
                    new.dtype = old.dtype
                graph.outputs[i] = new
    ir.convenience.replace_all_uses_with(old, new)


def insert_node(
    graph: ir.Graph,
    before: ir.Node,
    op_type: str,
    inputs: Iterable[ir.Value],
    output: str,
    attributes: dict[str, Any] | None = None,
) -> ir.Value:
    """Put a new single-output node before another; returns its output."""
    made = ir.node(op_type, list(inputs), attributes=attributes or {}, num_outputs=1)
    made.outputs[0].name = output
    made.name = output
    _taken(graph).add(output)
    graph.insert_before(before, made)
    return made.outputs[0]


def infer_shapes(graph_model: ir.Model) -> ir.Model:
    """A copy with the shapes that can be inferred; where inference fails, the graph as it is."""
    try:
        return _inferred(graph_model, strict=False)
    except Exception:  # a wish, not a need: what cannot be inferred is simply not known
        return graph_model


def _inferred(graph_model: ir.Model, strict: bool) -> ir.Model:
    """A copy with inferred shapes; large constants are not copied, no shape depends on them."""
    proto = ir.to_proto(graph_model)
    tensors = list(proto.graph.initializer)
    large = [t for t in tensors if len(t.raw_data) > LARGE_BYTES]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(t for t in tensors if len(t.raw_data) <= LARGE_BYTES)
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large
    )
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=strict)
    if _vector_values(inferred) <= MAX_SHAPE_VALUES:  # it takes memory for each of them
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=strict, data_prop=True)
    made = ir.from_proto(inferred)
    first = len(made.graph.inputs) - len(large)
    for value in made.graph.inputs[first:]:
        value.const_value = graph_model.graph.initializers[value.name or ""].const_value
        made.graph.register_initializer(value)
    del made.graph.inputs[first:]
    return made


def _vector_values(proto: onnx.ModelProto) -> int:
    """Numbers in all vectors that nodes make, as far as their lengths are known."""
    shapes = [value.type.tensor_type.shape.dim for value in proto.graph.value_info]
    return sum(dims[0].dim_value for dims in shapes if len(dims) == 1)


def extract(
    graph_model: ir.Model,
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
) -> bytes:
    """Serialize some nodes as a model of their own, with the initializers that they read."""
    graph = graph_model.graph
    proto = onnx.ModelProto(ir_version=graph_model.ir_version)
    proto.graph.name = "part"
    for domain, version in graph.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    proto.graph.node.extend(ir.to_proto(n) for n in nodes)
    read = set().union(*(names_read(n) for n in nodes))
    for name in sorted(n for n in read if n in graph.initializers):
        tensor = graph.initializers[name].const_value
        if tensor is not None:
            proto.graph.initializer.append(ir.to_proto(tensor))
    proto.graph.input.extend(ir.to_proto(v) for v in inputs)
    proto.graph.output.extend(ir.to_proto(v) for v in outputs)
    data: bytes = proto.SerializeToString()
    return data


def names_read(node: ir.Node) -> set[str]:
    """Names a node reads, those captured by its subgraphs included."""
    found = {v.name for v in node.inputs if v is not None and v.name}
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            inner = attribute.as_graph()
            made = {v.name for v in inner.inputs} | set(inner.initializers)
            for child in inner:
                found |= names_read(child) - made
                made |= {o.name for o in child.outputs}
            found |= {v.name for v in inner.outputs if v.name} - made
    return found
