"""PyTorch's ExportedProgram, what `torch.export.export` gives, to a graph through OpenVINO's
frontend.

It is taken as an object only. A .pt2 file holds pickles and expressions that are evaluated when it
is read, so that whoever trusts one reads it: `accel.load(torch.export.load("net.pt2"))`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir

from accel.errors import ModelError
from accel.importers.openvino import load_openvino, lower_openvino, unreadable

NAME = "an ExportedProgram"


def is_exported(source: object) -> bool:
    """Whether an object is an ExportedProgram; PyTorch is not imported for that."""
    kind = type(source)
    return kind.__name__ == "ExportedProgram" and kind.__module__.startswith("torch.")


def import_exported(program: Any) -> ir.Model:
    """Lower an ExportedProgram; sizes that were exported as dynamic stay free.

    Raises
    ------
    ModelError
        OpenVINO's frontend does not read it.
    UnsupportedError
        An operator that is not known.
    DeviceError
        OpenVINO is not installed.
    """
    openvino = load_openvino("PyTorch")
    try:
        dims = [_dims(tensor) for tensor in _inputs(program)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # between the frontend and PyTorch, not the caller's
            model = openvino.convert_model(program)
        ports = zip(model.inputs, dims, strict=True)
        model.reshape({port: openvino.PartialShape(sizes) for port, sizes in ports})
    except ModelError:
        raise
    except Exception as err:  # torch and the frontend raise whatever they like
        raise unreadable(NAME, "PyTorch", err) from None
    return lower_openvino(model, NAME)


def _inputs(program: Any) -> Iterator[Any]:
    """The tensors that a caller gives, in order; parameters and buffers are none."""
    own = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in own:
            yield node.meta["val"]


def _dims(tensor: Any) -> list[int]:
    """Sizes; -1 for a symbol."""
    if not hasattr(tensor, "shape"):
        raise ModelError(f"{NAME} takes {tensor!r} as an input; expected tensors only")
    return [size if isinstance(size, int) else -1 for size in tensor.shape]
