"""The backend interface of the onnx package: `prepare`, `run_model`, `run_node`, `supports_device`.

    import accel.onnx_backend as backend
    outputs = backend.run_model(onnx.load("net.onnx"), [image])

Models run on any of our devices, quantized by default. Shapes are those of the inputs: one program
is compiled for each set of them and kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict

from accel.device import device as open_device
from accel.device import device_info, kinds
from accel.errors import AccelError, InputError
from accel.graph import OPSET
from accel.model import Model, load
from accel.programs import Programs

Array = np.ndarray[Any, Any]


class Prepared(BackendRep):
    """A model ready to run.

    Parameters
    ----------
    name : of one of our devices.
    model : quantized or not.
    """

    def __init__(self, name: str, model: Model) -> None:
        self._model = model
        self._programs = Programs(open_device(name), model)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Compute the outputs.

        Parameters
        ----------
        inputs : arrays in the order of the model's inputs, one array, or a dict by name.

        Returns
        -------
        A named tuple of arrays, in the order of the model's outputs.

        Raises
        ------
        InputError
            Inputs that do not fit the model; see `Program.run`.
        """
        arrays = self._by_name(inputs)
        found = self._programs.run(arrays)
        names = [spec.name for spec in self._model.outputs]
        values = [found[n] for n in names] if isinstance(found, dict) else [found]
        outputs: tuple[Any, ...] = namedtupledict("Outputs", names)(*values)
        return outputs

    def _by_name(self, inputs: Any) -> dict[str, Array]:
        names = [spec.name for spec in self._model.inputs]
        if isinstance(inputs, Mapping):
            return {str(name): np.asarray(value) for name, value in inputs.items()}
        values = inputs if isinstance(inputs, Sequence) else [inputs]
        if len(values) != len(names):
            raise InputError(f"{len(values)} inputs given; the model takes {len(names)}: {names}")
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}


class AccelBackend(Backend):
    """See the functions of this module, which are its methods."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether `prepare` takes the model."""
        try:
            cls.prepare(model, device, **kwargs)
        except AccelError:
            return False
        return True

    @classmethod
    def prepare(
        cls, model: onnx.ModelProto, device: str = "CPU", quantize: bool = True, **kwargs: Any
    ) -> Prepared:
        """Load a model.

        Parameters
        ----------
        device : ``CPU`` for our kernels, or the name of one of our devices.
        quantize : to int8 with local windows; devices of our own take no other model.

        Raises
        ------
        ModelError
            Not a valid model.
        DeviceError
            No such device.
        """
        loaded = load(model.SerializeToString())
        return Prepared(_device_name(device), loaded.quantize() if quantize else loaded)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node, of opset 21 or of `opset_version`.

        Parameters
        ----------
        inputs : arrays, one for each input that the node names.
        outputs_info : dtype and shape of each output, where onnx cannot infer them.
        """
        arrays = [np.asarray(value) for value in inputs]
        given = [
            _info(name, array.dtype, array.shape)
            for name, array in zip((n for n in node.input if n), arrays, strict=True)
        ]
        told = outputs_info or ()
        wanted = [_info(n, *info) for n, info in zip(node.output, told, strict=bool(told))]
        opset = kwargs.pop("opset_version", OPSET)
        made = onnx.helper.make_model(
            onnx.helper.make_graph([node], "node", given, wanted),
            opset_imports=[onnx.helper.make_opsetid("", opset)],
        )
        if not told:
            infos = onnx.shape_inference.infer_shapes(made).graph.value_info
            made.graph.output.extend(i for i in infos if i.name in node.output)
        return cls.prepare(made, device, **kwargs).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether the device is known and installed."""
        name = _device_name(device)
        return name.partition(":")[0] in kinds() and device_info(name.partition(":")[0]).available


def _device_name(device: str) -> str:
    """Our name of a device of the onnx package."""
    kind, _, index = device.partition(":")
    return "cpu" if kind == "CPU" and index in ("", "0") else device


def _info(name: str, dtype: Any, shape: Sequence[int]) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, list(shape))


is_compatible = AccelBackend.is_compatible
prepare = AccelBackend.prepare
run_model = AccelBackend.run_model
run_node = AccelBackend.run_node
supports_device = AccelBackend.supports_device
