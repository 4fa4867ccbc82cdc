"""GraphBuilder: collects ONNX nodes and constants while a foreign format is read, and closes them
into a checked graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from accel import graph as g
from accel.errors import ModelError
from accel.importers.onnx import import_bytes

MAX_ELEMENTS = 1 << 28  # of one tensor (1 GiB of float32): no file may ask for more

Array = np.ndarray[Any, Any]


class GraphBuilder:
    """Nodes, constants, inputs and outputs of one graph; names are made unique.

    Parameters
    ----------
    source : how messages call the model.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: dict[str, tuple[str, int]] = {}
        self._taken: dict[str, int] = {}

    def input(
        self, name: str, shape: Sequence[int | str | None], dtype: int = TensorProto.FLOAT
    ) -> str:
        """Declare an input; a string names a free dimension."""
        self._taken.setdefault(name, 0)
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, name: str, value: str, dtype: int = TensorProto.FLOAT) -> None:
        """Declare an output: the value takes this name, an inner value that has it gives way."""
        taken = {declared.name for declared in self._inputs} | set(self._outputs)
        unique, n = name, 1
        while unique in taken:
            unique, n = f"{name}_{n}", n + 1
        self._outputs[unique] = (value, dtype)

    def constant(self, array: Array, name: str) -> str:
        """Register a constant; returns its name."""
        name = self.unique(name)
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def ints(self, values: Sequence[int], name: str) -> str:
        """Register an int64 vector."""
        return self.constant(np.array(values, np.int64), name)

    def scalar(self, value: float, name: str) -> str:
        """Register a float32 scalar."""
        return self.constant(np.array(value, np.float32), name)

    def node(self, op_type: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        return self.nodes(op_type, inputs, [name], **attributes)[0]

    def nodes(
        self, op_type: str, inputs: Sequence[str], names: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; returns their names."""
        outputs = [self.unique(n) for n in names]
        made = helper.make_node(op_type, list(inputs), outputs, name=outputs[0], **attributes)
        self._nodes.append(made)
        return outputs

    def unique(self, name: str) -> str:
        """Take a value name, with a number behind it where it is taken."""
        made, n = name, self._taken.get(name, 0)
        while made in self._taken:
            n += 1
            made = f"{name}_{n}"
        self._taken[name] = n  # where to go on counting: many values may ask for one name
        self._taken.setdefault(made, 0)
        return made

    def build(self) -> ir.Model:
        """Check the graph and infer its shapes.

        Raises
        ------
        ModelError
            No input or output, or shapes that do not fit together.
        """
        if not self._inputs or not self._outputs:
            what = "outputs" if self._inputs else "inputs"
            raise ModelError(f"model {self.source!r} has no {what}; expected a whole network")
        self._name_outputs()
        outputs = [helper.make_tensor_value_info(n, d, None) for n, (_, d) in self._outputs.items()]
        graph = helper.make_graph(
            self._nodes, "graph", self._inputs, outputs, initializer=self._constants
        )
        opsets = [helper.make_opsetid("", g.OPSET)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=g.IR_VERSION)
        try:
            proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
            data = proto.SerializeToString()
        except Exception as err:
            first = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
            raise ModelError(
                f"model {self.source!r}: its layers do not fit together: {first}"
            ) from None
        return import_bytes(data, self.source, folder=None)

    def _name_outputs(self) -> None:
        made = {o for node in self._nodes for o in node.output}
        final: dict[str, str] = {}
        for name, (value, _) in self._outputs.items():
            if value in made and value not in final:
                final[value] = name
            elif value != name:  # an input, a constant, or an output under two names
                self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        for value in (made & set(self._outputs)) - set(final):
            final[value] = self.unique(f"{value}/inner")
        for node in self._nodes:
            node.input[:] = [final.get(v, v) for v in node.input]
            if node.op_type != "Identity" or node.output[0] in made:
                node.output[:] = [final.get(v, v) for v in node.output]
