"""What a card would give a network: images per second, latency, energy and what limits them.

Steady-state arithmetic over the same equations the simulation uses; queueing and the tails of the
latency come from running the card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accel.errors import CardError
from accel.fpga.clock import PS_PER_S
from accel.fpga.engine import EngineSpec, image_ps, time_layers
from accel.fpga.link import LinkSpec
from accel.fpga.network import Layer
from accel.fpga.profile import Profile


@dataclass(frozen=True)
class Prediction:
    """Predicted steady state of one network on one card.

    Attributes
    ----------
    images_per_s : the smallest of `limits`
    limits : images per second each component could carry
    bottleneck : name of the component with the smallest limit
    latency_s : one image on one free engine, without transfer
    watts : power at that rate: idle, and a constant energy per int8 operation
    error : typical relative error of the family on networks a fit has not seen
    """

    images_per_s: float
    limits: dict[str, float]
    bottleneck: str
    latency_s: float
    watts: float
    error: float

    @property
    def joules(self) -> float:
        """Energy per image, idle power included."""
        return self.watts / self.images_per_s

    def __str__(self) -> str:
        return (
            f"{self.images_per_s:.1f} images/s (about ±{self.error:.0%}), limited by "
            f"{self.bottleneck}; {self.latency_s * 1e3:.2f} ms an image, "
            f"{self.watts:.0f} W, {self.joules * 1e3:.0f} mJ an image"
        )


def predict(
    layers: Sequence[Layer],
    profile: Profile,
    image_bytes: int = 0,
    pixels: int = 0,
) -> Prediction:
    """Predict the steady rate of a network.

    Parameters
    ----------
    layers : one image's layers, as from `Model.workload()` or `topology()`
    profile : the card; the clock is one of its numbers
    image_bytes : bytes that cross the link per image, 0 to leave the link out
    pixels : pixels the host stage decodes and scales per image, 0 to leave it out

    Raises
    ------
    CardError
        The card has no engine, or its engines run none of the layers.
    """
    if not profile.has_engine:
        raise CardError(f"card {profile.name} only moves bytes; it runs no network")
    spec = EngineSpec.from_profile(profile)
    times = time_layers(layers, spec)
    if not times:
        raise CardError(f"the engines of {profile.name} run none of the network's layers")
    one = image_ps(times, spec)
    limits = {"engines": spec.count * PS_PER_S / one}
    moved = sum(t.n_bytes for t in times)
    if moved:
        limits["card memory"] = spec.total_bandwidth / moved
    if image_bytes:
        link = LinkSpec.from_profile(profile)
        limits["pcie"] = link.read_bandwidth(image_bytes) / image_bytes
    if pixels and "host.pixels_per_s" in profile:
        limits["host"] = profile.value("host.pixels_per_s") / pixels
    bottleneck = min(limits, key=lambda name: limits[name])
    rate = limits[bottleneck]
    ops = 2 * sum(t.macs for t in times)
    watts = profile.value("power.idle") + profile.value("power.energy_per_op") * ops * rate
    return Prediction(
        rate, limits, bottleneck, one / PS_PER_S, watts, profile.value("engine.error")
    )
