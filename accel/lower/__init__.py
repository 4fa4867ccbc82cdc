"""Lower a quantized graph to a `Schedule`: what our kernels run, and what is left to the host."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.lower.columns import columns_calls
from accel.lower.host import needed_nodes, ordered
from accel.lower.images import channels_last_call, join_call, pool_call, view_call
from accel.lower.keep_rests import keep_rests
from accel.lower.linear import linear_call
from accel.lower.matmuls import matmul_calls
from accel.lower.nearest import nearest_call
from accel.lower.pool_parts import pool_parts
from accel.lower.products import product_call
from accel.lower.samples import sample_call
from accel.lower.skew_windows import skew_windows
from accel.lower.winograd import use_winograd
from accel.passes.find_nonnegative import find_nonnegative
from accel.passes.fold_shapes import fold_shapes
from accel.schedule import OwnCall, Schedule

__all__ = ["lower"]


def lower(model: ir.Model, winograd: bool = True) -> Schedule:
    """Lower a graph whose shapes are fixed; `winograd` is that of `Device.compile`."""
    model = fold_shapes(model)
    claimed: set[ir.Node] = set()
    calls = skew_windows(_own_calls(model, claimed))
    host = needed_nodes(model.graph, claimed, calls)
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [o for node in model.graph for o in node.outputs]
    outputs = list(model.graph.outputs)
    schedule = Schedule(
        calls=tuple(ordered(model, calls, host)),
        inputs=tuple(v.name or "" for v in g.data_inputs(model.graph)),
        outputs=tuple(v.name or "" for v in outputs),
        constants={v.name or "": a for v in outputs if (a := g.constant(v)) is not None},
        shapes={v.name or "": g.known_shape(v) for v in values},
        dtypes={v.name or "": np.dtype(v.dtype.numpy()) for v in values if v.dtype is not None},
    )
    schedule = keep_rests(pool_parts(schedule))
    return use_winograd(schedule) if winograd else schedule


def _own_calls(model: ir.Model, claimed: set[ir.Node]) -> list[OwnCall]:
    """Products wherever our kernels can run them; what moves images only between own calls."""
    nonnegative = find_nonnegative(model)
    matmuls = matmul_calls(model.graph, nonnegative, claimed)  # first: they take transpositions
    calls: list[OwnCall] = []
    images: set[str] = set()  # values that our kernels make, channels last
    for node in model.graph:
        call: OwnCall | None = matmuls.get(node)
        if node not in claimed:
            call = (
                product_call(node, nonnegative, claimed)
                or pool_call(node, images)
                or sample_call(node, images, claimed)
                or nearest_call(node, images)
                or linear_call(node, images)
                or join_call(node, images)
                or view_call(node, images)
                or channels_last_call(node, images)
            )
        if call is not None:
            calls.append(call)
            claimed.add(node)
            images.add(call.y)
    return [*calls, *columns_calls(model.graph, images, claimed)]
