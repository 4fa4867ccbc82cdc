"""Operators outside our kernels: subgraphs that ONNX Runtime runs inside a plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import UnsupportedError

if TYPE_CHECKING:
    import onnxruntime as ort

Array = np.ndarray[Any, Any]

TYPES = {  # that NumPy arrays carry from one subgraph to the next
    f"tensor({name})"
    for name in (
        "bool", "double", "float", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16",
        "uint32", "uint64",
    )
}  # fmt: skip


def open_session(data: bytes, threads: int, name: str) -> ort.InferenceSession:
    """An InferenceSession bound to `threads` threads that do not spin.

    Raises
    ------
    UnsupportedError
        ONNX Runtime cannot run the graph; its own reason is quoted.
    """
    import onnxruntime as ort  # half of what a program without such a group loads

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # by default a MatMul behind DequantizeLinear would round its activations to int8
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as err:
        raise UnsupportedError(
            f"model {name!r}: neither our kernels nor ONNX Runtime can run it: {_first_line(err)}"
        ) from None


@contextmanager
def typed_errors() -> Iterator[None]:
    """Turn what ONNX Runtime raises while it runs into an UnsupportedError."""
    try:
        yield
    except Exception as err:
        raise UnsupportedError(f"ONNX Runtime failed: {_first_line(err)}") from None


def _first_line(err: Exception) -> str:
    text = str(err).strip()
    return text.splitlines()[0] if text else type(err).__name__


class HostCall:
    """A subgraph run by ONNX Runtime; its outputs land in given arrays where their shape is known.

    Raises
    ------
    UnsupportedError
        A value at the subgraph's border is no tensor of numbers; when called: ONNX Runtime failed.

    Parameters
    ----------
    sources : input arrays by name, bound once; inputs of unknown shape are absent.
    targets : output arrays by name, bound once; other outputs are returned by the call.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        sources: dict[str, Array],
        targets: dict[str, Array],
    ) -> None:
        for value in (*session.get_inputs(), *session.get_outputs()):
            if value.type not in TYPES:
                raise UnsupportedError(
                    f"value {value.name!r} is of type {value.type}; between operators of this "
                    "device only tensors of numbers pass: use device 'onnxruntime'"
                )
        self._session = session
        self._loose_inputs = [i.name for i in session.get_inputs() if i.name not in sources]
        self._outputs = [o.name for o in session.get_outputs()]
        self._sources, self._targets = sources, targets
        self._binding = session.io_binding()
        for name, array in sources.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name in self._outputs:
            if name in targets:
                a = targets[name]
                self._binding.bind_output(name, "cpu", 0, a.dtype, a.shape, a.ctypes.data)
            else:
                self._binding.bind_output(name, "cpu")

    def __call__(self, loose: dict[str, Array]) -> None:
        """Run; outputs without a fixed place are put into `loose`."""
        for name in self._loose_inputs:
            self._binding.bind_cpu_input(name, loose[name])
        with typed_errors():
            self._session.run_with_iobinding(self._binding)
        if len(self._targets) < len(self._outputs):
            for name, value in zip(self._outputs, self._binding.get_outputs(), strict=True):
                if name not in self._targets:
                    loose[name] = value.numpy()
