"""ONNX files to a graph: parse, check, bring external data in, raise to opset 21."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import external_data_helper, numpy_helper, version_converter
from onnx_ir.passes import common

from accel import graph as g
from accel.errors import ModelError


def import_bytes(data: bytes, name: str, folder: Path | None) -> ir.Model:
    """Parse and check an ONNX model.

    Parameters
    ----------
    data : the serialized ModelProto.
    name : how messages call the model.
    folder : where external data may lie; None refuses external data.

    Raises
    ------
    ModelError
        Not ONNX, truncated, invalid, or its data lies outside `folder`.
    """
    proto = _parse(data, name)
    _load_external(proto, name, folder)
    _check(proto, name)
    proto = _raise_opset(proto, name)
    _check_weights(proto, name)
    try:
        graph_model = ir.from_proto(proto)
        for tidy in (
            common.InlinePass(),
            common.RemoveInitializersFromInputsPass(),
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.NameFixPass(),
        ):
            tidy(graph_model)
    except Exception as err:  # what the checker let through leaves onnx_ir by many exceptions
        raise ModelError(f"model {name!r} is not valid ONNX: {_first_line(err)}") from None
    graph_model.ir_version = g.IR_VERSION  # engines refuse versions that are newer than they
    return graph_model


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as err:  # protobuf's DecodeError has no public base
        raise ModelError(
            f"cannot read model {name!r}: not an ONNX file, or truncated ({err}); "
            f"got {len(data)} bytes, expected a serialized ModelProto"
        ) from None
    if not proto.HasField("graph") or not proto.opset_import:
        raise ModelError(
            f"cannot read model {name!r}: no graph or no opset in it; "
            f"got {len(data)} bytes, expected a serialized ModelProto"
        )
    return proto


def _load_external(proto: onnx.ModelProto, name: str, folder: Path | None) -> None:
    external = [
        t
        for t in external_data_helper._get_all_tensors(proto)
        if external_data_helper.uses_external_data(t)
    ]
    if not external:
        return
    if folder is None:
        raise ModelError(
            f"cannot read model {name!r}: its weights lie in other files; load it from a path"
        )
    root = folder.resolve()
    for tensor in external:
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        if not _is_file_below(root, location):
            raise ModelError(
                f"cannot read model {name!r}: tensor {tensor.name!r} points to {location[:200]!r}; "
                "expected a file in the model's own folder"
            )
    try:
        for tensor in external:
            external_data_helper.load_external_data_for_tensor(tensor, str(root))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    except Exception as err:
        raise ModelError(f"cannot read model {name!r}: external data: {err}") from None


def _is_file_below(root: Path, location: str) -> bool:
    try:
        target = (root / location).resolve()
        return target.is_relative_to(root) and target.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def _check_weights(proto: onnx.ModelProto, name: str) -> None:
    """Refuse tensors whose data do not fill their shape; the checker looks at few of them."""
    for tensor in external_data_helper._get_all_tensors(proto):
        try:
            numpy_helper.to_array(tensor)
        except Exception as err:
            raise ModelError(
                f"model {name!r} is not valid ONNX: tensor {tensor.name!r} of shape "
                f"{tuple(tensor.dims)}: {_first_line(err)}"
            ) from None


def _check(proto: onnx.ModelProto, name: str) -> None:
    try:
        onnx.checker.check_model(proto)
    except Exception as err:
        raise ModelError(f"model {name!r} is not valid ONNX: {_first_line(err)}") from None


def _raise_opset(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    version = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if version >= g.OPSET or version == 0:
        return proto
    try:
        return version_converter.convert_version(proto, g.OPSET)
    except Exception as err:
        raise ModelError(
            f"model {name!r} uses opset {version} and cannot be raised to {g.OPSET}: "
            f"{_first_line(err)}"
        ) from None


def _first_line(err: Exception) -> str:
    return str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
