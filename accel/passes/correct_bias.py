"""Give back to a convolution's bias what the rounding of its weights takes off the mean output.

The mean of each input channel times the error of its weights is a shift that every pixel gets. It
adds up from layer to layer, and a detector then finds fewer boxes at the same threshold. The means
are those of the float network on noise.
Source: bias correction of Nagel et al., *Data-Free Quantization*, ICCV 2019, with noise in place of
the statistics of batch normalization, which most files have folded away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.passes.run_on_noise import run_on_noise

TRUST = 0.25  # of a shift: photographs differ from noise, and all of it harms some networks

Array = np.ndarray[Any, Any]


def mean_inputs(model: ir.Model) -> dict[str, Array]:
    """Mean of each channel of what 2-D convolutions with a constant bias read, by value name."""
    read = [node.inputs[0] for node in model.graph if _bias(node) is not None]
    made = [v for v in read if v is not None and v.producer() is not None]
    found = run_on_noise(model, made, ("GlobalAveragePool",))
    return {name: means.mean(axis=0) for name, means in found.items() if np.isfinite(means).all()}


def correct_bias(graph: ir.Graph, node: ir.Node, error: Array, means: dict[str, Array]) -> None:
    """Correct the bias of a product, where it is one of those of `mean_inputs`.

    Parameters
    ----------
    error : of the weight, float minus rounded, (OC, IC / groups, KH, KW).
    """
    source, bias = node.inputs[0], _bias(node)
    mean = means.get(source.name or "") if source is not None else None
    if bias is None or mean is None:
        return
    groups = g.attribute(node, "group", 1)
    parts = error.sum(axis=(2, 3)).reshape(groups, len(error) // groups, -1)
    shift = (parts * mean.reshape(groups, 1, -1)).sum(axis=2).reshape(-1)
    name = f"{node.inputs[2].name}_corrected"  # type: ignore[union-attr]
    made = g.add_initializer(graph, name, (bias + TRUST * shift).astype(np.float32))
    node.replace_input_with(2, made)


def _bias(node: ir.Node) -> Array | None:
    """The constant float32 bias (OC,) of a 2-D convolution."""
    if not g.is_op(node, "Conv") or len(node.inputs) < 3:
        return None
    weight, bias = g.constant(node.inputs[1]), g.constant(node.inputs[2])
    plain = weight is not None and weight.ndim == 4 and weight.dtype == np.float32
    return bias if plain and bias is not None and bias.shape == weight.shape[:1] else None  # type: ignore[union-attr]
