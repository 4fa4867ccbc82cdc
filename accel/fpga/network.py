"""What an engine runs: layer shapes for its time, a function for its values, a frame for its bytes.

A frame is the region of card memory one request owns: its inputs, then its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accel.errors import CardError, InputError
from accel.fpga.memory import Memory

ALIGNMENT = 64
Arrays = dict[str, NDArray[Any]]


class Layer(Protocol):
    """The shape of one layer for one image (see `accel.workload.Layer`)."""

    @property
    def name(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def oh(self) -> int: ...
    @property
    def ow(self) -> int: ...
    @property
    def oc(self) -> int: ...
    @property
    def ic(self) -> int: ...
    @property
    def kh(self) -> int: ...
    @property
    def kw(self) -> int: ...
    @property
    def groups(self) -> int: ...
    @property
    def macs(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def input_bytes(self) -> int: ...
    @property
    def output_bytes(self) -> int: ...


@dataclass(frozen=True)
class Port:
    """One array of a frame: where it lies, counted from the frame's first byte."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def read(self, memory: Memory, frame: int) -> NDArray[Any]:
        """Return a copy of the array in the frame at address `frame`."""
        raw = memory.view(frame + self.offset, self.n_bytes)
        return raw.view(self.dtype).reshape(self.shape).copy()


class Network:
    """A network as the card sees it.

    Parameters
    ----------
    name : str
    layers : sequence of Layer
        One image's layers, in order.
    inputs, outputs : mapping of name to (shape, dtype)
        Whole batches: the first dimension is the number of images in a frame.
    function : callable
        Takes and returns a dict of arrays by name; computes the values.
    host_seconds : float
        What the host still has to compute per image after the card, in seconds.
    stage_seconds : float
        What the host computes per image before the card, e.g. scaling, in seconds.

    Attributes
    ----------
    input_bytes, output_bytes : of a frame; the outputs begin at `output_offset` and end it
    blank : whether its frames hold no bytes, for runs that ask for time alone
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[Layer],
        inputs: Mapping[str, tuple[tuple[int, ...], Any]],
        outputs: Mapping[str, tuple[tuple[int, ...], Any]],
        function: Callable[[Arrays], Arrays],
        host_seconds: float = 0.0,
        stage_seconds: float = 0.0,
    ) -> None:
        if not inputs or not outputs:
            raise InputError(f"network {name!r} needs at least one input and one output")
        self.name = name
        self.layers = tuple(layers)
        self.inputs, self.input_bytes = _lay_out(inputs, 0)
        self.outputs, self.frame_bytes = _lay_out(outputs, self.input_bytes)
        self.output_offset = self.input_bytes
        self.output_bytes = self.frame_bytes - self.input_bytes
        self.images = self.inputs[0].shape[0]
        self.host_seconds = host_seconds
        self.stage_seconds = stage_seconds
        self.blank = False
        self._function = function

    @classmethod
    def of_shapes(
        cls,
        name: str,
        layers: Sequence[Layer],
        input_bytes: int,
        output_bytes: int = 4000,
        images: int = 1,
        host_seconds: float = 0.0,
        stage_seconds: float = 0.0,
    ) -> Network:
        """Return a network of shapes without weights: its time is right, its values are zero.

        `images` in a frame; `input_bytes` and `output_bytes` cross the link for each. The card
        moves descriptors and completions as ever, but no bytes of its frames.
        """
        zeros = np.zeros((images, output_bytes), np.uint8)
        network = cls(
            name,
            layers,
            {"x": ((images, input_bytes), np.uint8)},
            {"y": ((images, output_bytes), np.uint8)},
            lambda _: {"y": zeros},
            host_seconds,
            stage_seconds,
        )
        network.blank = True
        return network

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that stay in card memory."""
        return sum(layer.weight_bytes for layer in self.layers)

    def pack_inputs(self, arrays: Mapping[str, NDArray[Any]], out: NDArray[np.uint8]) -> None:
        """Copy input arrays into `out`, (input_bytes,) uint8, at their places."""
        for port in self.inputs:
            array = np.ascontiguousarray(arrays[port.name])
            if array.shape != port.shape or array.dtype != port.dtype:
                raise InputError(
                    f"{port.name}: got {array.dtype} {array.shape}, "
                    f"the card expects {port.dtype} {port.shape}"
                )
            out[port.offset : port.offset + port.n_bytes] = array.reshape(-1).view(np.uint8)

    def unpack_outputs(self, raw: NDArray[np.uint8]) -> Arrays:
        """Return copies of the output arrays held in `raw`, (output_bytes,) uint8."""
        return {
            port.name: raw[port.offset - self.output_offset :][: port.n_bytes]
            .view(port.dtype)
            .reshape(port.shape)
            .copy()
            for port in self.outputs
        }

    def compute(self, arrays: Arrays) -> Arrays:
        """Return the outputs for a dict of input arrays, away from any card."""
        return self._function(arrays)

    def run(self, memory: Memory, frame: int) -> None:
        """Compute the outputs of the frame at address `frame` from the bytes lying there."""
        if self.blank:
            return
        results = self._function({port.name: port.read(memory, frame) for port in self.inputs})
        for port in self.outputs:
            result = np.ascontiguousarray(results[port.name])
            if result.shape != port.shape or result.dtype != port.dtype:
                raise CardError(
                    f"{self.name}: output {port.name} is {result.dtype} {result.shape}; "
                    f"declared as {port.dtype} {port.shape}"
                )
            memory.write(frame + port.offset, result)


def _lay_out(
    arrays: Mapping[str, tuple[tuple[int, ...], Any]], start: int
) -> tuple[tuple[Port, ...], int]:
    ports = []
    offset = start
    for name, (shape, dtype) in arrays.items():
        port = Port(name, tuple(shape), np.dtype(dtype), offset)
        if port.n_bytes < 1:
            raise InputError(f"{name}: shape {port.shape} holds no elements")
        ports.append(port)
        offset += -(-port.n_bytes // ALIGNMENT) * ALIGNMENT
    return tuple(ports), offset
