"""Model: a graph with its weights and its quantization. Immutable and picklable; a standard
ONNX file is its only stored form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.compress import compress
from accel.detection.attach import attach_spec, attached_spec
from accel.detection.known import load_spec
from accel.detection.spec import DetectorSpec
from accel.errors import InputError, ModelError, as_model_error
from accel.importers import Source, import_model
from accel.new_file import new_file
from accel.passes.choose_windows import MAX_WINDOW, choose_windows, window_of
from accel.passes.equalize_depthwise import equalize_depthwise
from accel.passes.fold_batchnorm import fold_batchnorm
from accel.passes.fold_constants import fold_constants
from accel.passes.fold_pixels import fold_pixels
from accel.passes.fold_preprocessing import fold_preprocessing
from accel.passes.keep_int8 import keep_int8
from accel.passes.quantize_tables import quantize_tables
from accel.passes.quantize_weights import quantize_weights
from accel.passes.shorten_graph import shorten_graph
from accel.tensor_spec import TensorSpec, fix_shapes
from accel.workload import Layer, workload_of

Array = np.ndarray[Any, Any]

QUANTIZED_KEY = "lwaccel.quantized"


class _Facts(NamedTuple):
    """What is asked of a model again and again, read from its bytes once."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    is_quantized: bool
    windows: dict[str, int]
    detector_spec: DetectorSpec | None


class Model:
    """A network: load one with `accel.load`, quantize it, compile it for a device."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self.name = name

    @classmethod
    def from_graph(cls, graph_model: ir.Model, name: str) -> Model:
        """Wrap a graph; later changes to the graph do not reach the Model."""
        return cls(g.to_bytes(graph_model), name)

    def __reduce__(self) -> tuple[type[Model], tuple[bytes, str]]:
        return type(self), (self._data, self.name)

    def __repr__(self) -> str:
        kind = "int8" if self.is_quantized else "float32"
        return f"<Model {self.name}: {kind}, {len(self._data)} bytes>"

    def to_bytes(self) -> bytes:
        """The model as a serialized ONNX file."""
        return self._data

    def graph(self) -> ir.Model:
        """A fresh copy of the graph, the caller's to change."""
        return g.from_bytes(self._data)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, hexadecimal: the identity used by caches."""
        return hashlib.sha256(self._data).hexdigest()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `Program.run` takes."""
        return self._facts.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `Program.run` returns."""
        return self._facts.outputs

    @property
    def is_quantized(self) -> bool:
        """Whether `quantize` made this model."""
        return self._facts.is_quantized

    @property
    def windows(self) -> dict[str, int]:
        """Activation window of each quantized node, by node name; 0: one scale for an image."""
        return dict(self._facts.windows)

    @property
    def detector_spec(self) -> DetectorSpec | None:
        """How `Detector` reads the outputs, where `as_detector` made this model."""
        return self._facts.detector_spec

    @cached_property
    def _facts(self) -> _Facts:
        graph_model = self.graph()
        return _Facts(
            inputs=tuple(g.spec_of(v) for v in g.data_inputs(graph_model.graph)),
            outputs=tuple(g.spec_of(v) for v in graph_model.graph.outputs),
            is_quantized=QUANTIZED_KEY in graph_model.metadata_props,
            windows={
                node.name or "": window
                for node in graph_model.graph
                if (window := window_of(node)) is not None
            },
            detector_spec=attached_spec(graph_model),
        )

    def quantize(self, window: int | None = None, weight_window: int | None = None) -> Model:
        """Quantize to int8 with local windows, without calibration data.

        Parameters
        ----------
        window : channels that share an activation scale, 1..512; None picks 32, 64 or 128 for
            each tensor from the weights alone and records it; input images of at most three
            channels then have one scale each.
        weight_window : input channels that share a weight scale, 1..512; None gives one scale
            per output channel.

        Raises
        ------
        InputError
            A window outside 1..512.
        ModelError
            The model is quantized already.

        Source: local quantization as introduced by BigDL, one window per (pixel, channel block).
        """
        for key, value in (("window", window), ("weight_window", weight_window)):
            if value is not None and not 1 <= value <= MAX_WINDOW:
                raise InputError(f"{key} is {value}; expected 1..{MAX_WINDOW}, or None")
        if self.is_quantized:
            raise ModelError(f"model {self.name!r} is quantized already; quantize the fp32 model")
        graph_model = self._folded()
        with as_model_error(self.name, "quantized"):
            choose_windows(graph_model, window)
            quantize_weights(graph_model, weight_window)
            quantize_tables(graph_model)
        graph_model.metadata_props[QUANTIZED_KEY] = "1"
        stored = g.forget_shapes(shorten_graph(graph_model))
        return Model(g.to_bytes(stored, aligned=True), self.name)

    def folded(self) -> Model:
        """The same function as `quantize` finds it before it rounds: constants, batch-norm and
        normalisation folded into the weights. Its values have the names of the quantized model's.
        """
        return Model.from_graph(g.forget_shapes(self._folded()), self.name)

    def _folded(self) -> ir.Model:
        with as_model_error(self.name, "folded"):
            graph_model = keep_int8(fold_constants(self.graph()))
            return equalize_depthwise(fold_pixels(fold_batchnorm(graph_model)))

    def calibrate(self, samples: Array | Mapping[str, Array]) -> Model:
        """Quantize to static int8 (QDQ) for the int8 kernels of `openvino` and `onnxruntime`.

        Our own devices need no samples; `quantize` is theirs.

        Parameters
        ----------
        samples : typical inputs, one array or a dict of arrays by input name, (N, ...) each; some
            hundred rows are enough.

        Raises
        ------
        InputError
            Samples that do not fit the model's inputs, or none.
        ModelError
            A model without a product that could become int8.
        """
        from accel.calibration import calibrate  # it runs the model, and devices know this file

        return calibrate(self, samples)

    def save(self, path: str | Path) -> Path:
        """Write a standard ONNX file, compressed where `path` ends in ``.xz``, as `load` reads it;
        a reader never sees half of it.
        """
        packed = Path(path).suffix == ".xz"
        with new_file(path) as file:
            file.write(compress(self._data) if packed else self._data)
        return Path(path)

    def with_preprocessing(
        self,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        scale: float = 255.0,
        order: Literal["rgb", "bgr"] = "rgb",
    ) -> Model:
        """Fold image normalisation in: the input becomes uint8 NHWC images in RGB order.

        The network sees ``(pixel / scale - mean) / std``, channels in its own order.

        Parameters
        ----------
        mean, std : one value, or one per channel in the network's own order.
        scale : what pixels are divided by first.
        order : the channel order that the network wants.

        Raises
        ------
        InputError
            Wrong number of channels, std or scale of zero.
        ModelError
            The model has not exactly one float32 image input (N, C, H, W).
        """
        folded = fold_preprocessing(self.graph(), self.name, mean, std, scale, order)
        return Model.from_graph(folded, self.name)

    def as_detector(self, spec: DetectorSpec | str | Path) -> Model:
        """Make a detection network one whose program `accel.Detector` runs.

        The model gets uint8 RGB input, as by `with_preprocessing`, and carries the description
        along: through `quantize`, `save`, `load` and pickling.

        Parameters
        ----------
        spec : a description, the name of a known one (`accel.detection.known.known_detectors`),
            or a JSON file; see docs/detection.md.

        Raises
        ------
        InputError
            An unknown name, or a description with a fault.
        ModelError
            The model has not exactly one image input.
        """
        described = spec if isinstance(spec, DetectorSpec) else load_spec(spec)
        return Model.from_graph(attach_spec(self.graph(), self.name, described), self.name)

    def fixed_shapes(
        self, batch_size: int | None, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Full input shapes for one batch size; a fixed leading dimension is kept.

        Raises
        ------
        ModelError
            A dimension other than the first is free and not given in `shapes`, or `shapes`
            contradicts the file.
        """
        return fix_shapes(self.name, self.inputs, batch_size, shapes)

    def with_shapes(
        self, batch_size: int | None, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> ir.Model:
        """A copy of the graph with every input fixed and all inner shapes inferred."""
        return g.fix_shapes(self.graph(), self.fixed_shapes(batch_size, shapes))

    def workload(self, batch_size: int = 1) -> list[Layer]:
        """Conv, Gemm and MatMul of the model with their shapes and multiplications."""
        return workload_of(self.with_shapes(batch_size))


def load(source: Source) -> Model:
    """Load a model from a file, or from a file's bytes.

    Parameters
    ----------
    source : ``.onnx``, ``.onnx.xz``; Caffe's ``.caffemodel`` or ``.prototxt``, or both as a pair
        where their names do not tell that they belong together; Keras's ``.h5``, ``.keras``;
        TensorFlow's SavedModel folder or frozen ``.pb``; ``.tflite``; TorchScript's ``.pt``;
        or PyTorch's ExportedProgram, an object. See docs/formats.md.

    Raises
    ------
    ModelError
        Missing, truncated, corrupt, or not a model.
    UnsupportedError
        A valid model with an operator that the importer does not know.
    DeviceError
        The package that reads this format is not installed.
    """
    graph_model, name = import_model(source)
    return Model.from_graph(graph_model, name)
