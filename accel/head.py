"""The head of a network: take it off to get features, and put another on.

The body stays as it is, quantized or not, so that a head trained on its features fits it exactly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from accel import graph as g
from accel.errors import InputError, ModelError
from accel.model import Model

LINEAR = ("Gemm", "MatMul", "Conv")


def without_head(model: Model, output: str | None = None) -> Model:
    """The model up to its features.

    Parameters
    ----------
    output : name of the inner value that becomes the only output; default: what the last linear
        layer reads.

    Raises
    ------
    ModelError
        There is no such value, or no linear layer.
    """
    graph_model = model.graph()
    graph = graph_model.graph
    value = _last_features(graph) if output is None else _named(graph, output)
    if value is None or value.producer() is None:
        wanted = "a linear layer" if output is None else f"an inner value {output!r}"
        raise ModelError(f"model {model.name!r} has not {wanted}; its values are "
                         f"{', '.join(_values(graph)[-8:])} and others before")  # fmt: skip
    inferred = _named(g.infer_shapes(graph_model).graph, value.name or "")
    value.shape = None if inferred is None else inferred.shape
    value.dtype = ir.DataType.FLOAT
    graph.outputs[:] = [value]
    return Model.from_graph(g.drop_unused(graph_model), model.name)


def with_head(
    model: Model, weights: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
) -> Model:
    """The model with a dense layer and softmax on its first output, which is flattened.

    Parameters
    ----------
    weights : (features, classes) float32
    bias : (classes,) float32

    Returns
    -------
    Model with the one output ``probability`` (N, classes). On a quantized model the head stays in
    float32; one that is quantized afterwards has it in int8.

    Raises
    ------
    InputError
        Shapes that do not fit each other or the model.
    """
    if weights.ndim != 2 or bias.shape != weights.shape[1:]:
        raise InputError(f"weights {weights.shape} and bias {bias.shape}; expected (features, "
                         "classes) and (classes,)")  # fmt: skip
    graph_model = model.graph()
    graph = graph_model.graph
    features = graph.outputs[0]
    width = g.shape_of(features)
    known = [d for d in (width or (None,))[1:] if d is not None]
    if width is not None and None not in width[1:] and np.prod(known) != len(weights):
        raise InputError(f"the head takes {len(weights)} features, but output {features.name!r} of "
                         f"model {model.name!r} has {width}")  # fmt: skip
    value = features
    for op, inputs, attributes in (
        ("Flatten", [], {"axis": 1}),
        (
            "Gemm",
            [_constant(graph, "head.weight", weights), _constant(graph, "head.bias", bias)],
            {},
        ),
        ("Softmax", [], {"axis": 1}),
    ):
        node = ir.node(op, [value, *inputs], attributes=attributes, name=f"head.{op.lower()}")
        graph.append(node)
        value = node.outputs[0]
    value.name = "probability"
    value.dtype = ir.DataType.FLOAT
    value.shape = ir.Shape([width[0] if width else None, len(bias)])
    graph.outputs[:] = [value]
    return Model.from_graph(graph_model, model.name)


def _constant(graph: ir.Graph, name: str, array: npt.NDArray[np.float32]) -> ir.Value:
    return g.add_initializer(graph, name, np.ascontiguousarray(array, np.float32))


def _last_features(graph: ir.Graph) -> ir.Value | None:
    layers = [node for node in graph if g.is_op(node, *LINEAR)]
    return layers[-1].inputs[0] if layers else None


def _named(graph: ir.Graph, name: str) -> ir.Value | None:
    found = [out for node in graph for out in node.outputs if out.name == name]
    return found[0] if found else None


def _values(graph: ir.Graph) -> list[str]:
    return [out.name for node in graph for out in node.outputs if out.name]
