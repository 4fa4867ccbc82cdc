"""TorchScript: a .pt file that `torch.jit.save` wrote to a graph, through OpenVINO's frontend.

A checkpoint (`torch.save`) is a pickle: weights without a network, and code when it is read. It is
refused unread.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import onnx_ir as ir

from accel.errors import DeviceError, ModelError
from accel.importers.openvino import load_openvino, lower_openvino, unreadable


def import_torchscript(path: Path) -> ir.Model:
    """Read a scripted or traced module.

    Raises
    ------
    ModelError
        Truncated, corrupt, or a checkpoint instead of TorchScript.
    UnsupportedError
        An operator that is not known.
    DeviceError
        PyTorch or OpenVINO is not installed.
    """
    if not holds_code(path):
        raise ModelError(
            f"cannot read {str(path)!r}: a checkpoint (a pickle of weights, without a network) or "
            "no PyTorch file; save the network as TorchScript: "
            "torch.jit.trace(network, example).save('network.pt')"
        )
    openvino, torch = load_openvino("TorchScript"), _torch()
    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()
        model = openvino.convert_model(module)
    except Exception as err:  # torch and the frontend raise whatever they like
        raise unreadable(path, "TorchScript", err) from None
    return lower_openvino(model, str(path))


def holds_code(path: Path) -> bool:
    """Whether the file is a zip archive with TorchScript code in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise DeviceError(
            "TorchScript files need PyTorch, which is not installed; pip install torch"
        ) from None
    return torch
