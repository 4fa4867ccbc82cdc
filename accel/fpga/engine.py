"""The time a compute engine takes: cycles from layer shapes, bytes from what does not fit on chip.

An engine multiplies `pixels` x `inputs` x `outputs` int8 values a cycle. Only shapes enter; the
values are computed elsewhere.

Source: the convolution loop order of the Xilinx DPU product guides PG338 and PG367; xDNN v3 from
the ml-suite documentation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from accel.fpga.clock import PS_PER_S, cycles_to_ps, seconds_to_ps
from accel.fpga.network import Layer
from accel.fpga.profile import Profile


@dataclass(frozen=True)
class EngineSpec:
    """Parameters of a card's engines; times in seconds, bandwidths in bytes per second.

    `share` engines use one copy of the weights read from memory. `spill` is the part of the
    activations that travels through memory, `on_chip_bytes` what one layer may hold before all
    of the rest does. `layer_overhead` is in cycles: filling the pipeline, and what is not counted
    of pooling and element-wise work. `port` bytes a cycle pass an engine's memory port at most. An
    engine without `dense` leaves Gemm and MatMul to the host.
    """

    pixels: int
    inputs: int
    outputs: int
    count: int
    clock_hz: float
    efficiency: float
    bandwidth: float
    total_bandwidth: float
    share: float
    spill: float
    on_chip_bytes: float
    layer_overhead: float
    image_overhead: float
    port: float = math.inf
    dense: bool = True

    @classmethod
    def from_profile(cls, profile: Profile) -> EngineSpec:
        """Take the engine's numbers from a card profile."""
        value = profile.value
        return cls(
            pixels=int(value("engine.pixels")),
            inputs=int(value("engine.inputs")),
            outputs=int(value("engine.outputs")),
            count=int(value("engine.count")),
            clock_hz=value("engine.clock"),
            efficiency=value("engine.efficiency"),
            bandwidth=value("engine.bandwidth"),
            total_bandwidth=value("engine.total_bandwidth"),
            share=value("engine.share"),
            spill=value("engine.spill"),
            on_chip_bytes=value("engine.on_chip_bytes"),
            layer_overhead=value("engine.layer_overhead"),
            image_overhead=value("engine.image_overhead"),
            port=value("engine.port"),
            dense=bool(value("engine.dense")),
        )

    @property
    def peak_macs(self) -> int:
        """Multiplications of one engine in one cycle."""
        return self.pixels * self.inputs * self.outputs

    @property
    def port_bandwidth(self) -> float:
        """Bytes per second that one engine's memory port passes at most."""
        return self.port * self.clock_hz

    def runs(self, layer: Layer) -> bool:
        """Whether the engine can run this layer at all."""
        return self.dense or layer.op not in ("Gemm", "MatMul")


@dataclass(frozen=True)
class LayerTime:
    """What one layer costs one engine for one image."""

    name: str
    op: str
    macs: int
    cycles: int
    n_bytes: int
    compute_ps: int
    memory_ps: int
    total_ps: int

    @property
    def bound(self) -> Literal["compute", "memory", "overhead"]:
        """Which part decides the layer's time."""
        longest = max(self.memory_ps, self.compute_ps)
        if self.total_ps - longest > longest:
            return "overhead"
        return "memory" if self.memory_ps > self.compute_ps else "compute"


def layer_cycles(layer: Layer, spec: EngineSpec) -> int:
    """Return the cycles of one layer on the array, without overheads."""
    rows = layer.oh * math.ceil(layer.ow / spec.pixels)
    if layer.groups > 1 and layer.groups == layer.ic == layer.oc:
        return rows * layer.kh * layer.kw * math.ceil(layer.oc / spec.inputs)
    ic, oc = layer.ic // layer.groups, layer.oc // layer.groups
    depth = layer.kh * layer.kw * math.ceil(ic / spec.inputs)
    if ic < spec.inputs:  # a row of the kernel is laid along the input channels
        depth = layer.kh * math.ceil(ic * layer.kw / spec.inputs)
    return layer.groups * rows * depth * math.ceil(oc / spec.outputs)


def layer_bytes(layer: Layer, spec: EngineSpec) -> int:
    """Return the bytes one image of one layer moves through card memory."""
    activations = layer.input_bytes + layer.output_bytes
    overflow = max(0.0, activations - spec.on_chip_bytes)
    return math.ceil(layer.weight_bytes / spec.share + spec.spill * overflow)


def layer_time(layer: Layer, spec: EngineSpec, clock_share: float = 1.0) -> LayerTime:
    """Return the time of one layer; `clock_share` < 1 is a throttled clock."""
    cycles = layer_cycles(layer, spec)
    n_bytes = layer_bytes(layer, spec)
    clock = spec.clock_hz * clock_share
    compute = cycles_to_ps(cycles, clock * spec.efficiency)
    memory = math.ceil(n_bytes * PS_PER_S / min(spec.bandwidth, spec.port * clock))
    total = max(compute, memory) + cycles_to_ps(spec.layer_overhead, clock)
    return LayerTime(layer.name, layer.op, layer.macs, cycles, n_bytes, compute, memory, total)


def time_layers(
    layers: Sequence[Layer], spec: EngineSpec, clock_share: float = 1.0
) -> list[LayerTime]:
    """Return the time of every layer the engine runs, in order."""
    return [layer_time(layer, spec, clock_share) for layer in layers if spec.runs(layer)]


def image_ps(times: Sequence[LayerTime], spec: EngineSpec) -> int:
    """Return the picoseconds one image occupies one engine."""
    return sum(t.total_ps for t in times) + seconds_to_ps(spec.image_overhead)


def images_per_second(layers: Sequence[Layer], spec: EngineSpec) -> float:
    """Return the steady rate of all engines together, as capped by card memory.

    It is infinite when the engines run none of the layers and have no overhead.
    """
    times = time_layers(layers, spec)
    one = image_ps(times, spec)
    by_engines = spec.count * PS_PER_S / one if one else math.inf
    moved = sum(t.n_bytes for t in times)
    return min(by_engines, spec.total_bandwidth / moved) if moved else by_engines
