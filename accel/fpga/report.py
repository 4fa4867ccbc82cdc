"""What a card gives under load: rate, tails of the latency, utilisation, and the gain for a job.

`measure` runs the simulated card; `compare_job` sets a card against the path a job takes today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accel.errors import InputError
from accel.fpga.card import Card
from accel.fpga.clock import PS_PER_NS, PS_PER_S, seconds_to_ps
from accel.fpga.driver import Driver
from accel.fpga.engine import EngineSpec, time_layers
from accel.fpga.network import Arrays, Layer, Network
from accel.fpga.packet import DEFAULT_PAYLOAD, HEADER, udp_goodput
from accel.fpga.predict import predict
from accel.fpga.profile import Profile
from accel.fpga.request import Request


@dataclass(frozen=True)
class Measurement:
    """Outcome of a simulated run; latencies in ns, from submission to the end.

    Attributes
    ----------
    utilisation : share of the run each component was busy
    bottleneck : the busiest component
    joules : energy per image, idle power included
    outcomes : how many requests ended on the card and on the CPU
    """

    images: int
    images_per_s: float
    p50_ns: int
    p95_ns: int
    p99_ns: int
    utilisation: dict[str, float]
    bottleneck: str
    joules: float
    outcomes: dict[str, int]

    def __str__(self) -> str:
        busiest = sorted(self.utilisation.items(), key=lambda item: -item[1])
        return "\n".join(
            [
                f"{self.images} images, {self.images_per_s:.1f} images/s, "
                f"{self.joules * 1e3:.0f} mJ an image, bottleneck {self.bottleneck}",
                f"latency p50 {self.p50_ns / 1e6:.3f} ms, p95 {self.p95_ns / 1e6:.3f} ms, "
                f"p99 {self.p99_ns / 1e6:.3f} ms",
                *(f"  {name:14} {share:6.1%}" for name, share in busiest),
            ]
        )


def measure(
    card: Card, network: Network, requests: int = 200, rate: float | None = None, seed: int = 0
) -> Measurement:
    """Run `requests` frames of zeros on a card and report what happened.

    Parameters
    ----------
    card : a card nobody else uses
    network : what to run; `Network.of_shapes` gives one without weights
    requests : frames to run, 1 … 1,000,000
    rate : frames per second that arrive at random (Poisson); None keeps the card full
    seed : of the arrivals

    Raises
    ------
    InputError
        Requests or rate outside their range.
    """
    if not 1 <= requests <= 1_000_000:
        raise InputError(f"requests is {requests}; expected 1 to 1,000,000")
    if rate is not None and rate <= 0:
        raise InputError(f"rate is {rate} frames/s; expected more than 0")
    driver = Driver(card)
    slot = driver.load(network)
    inputs: Arrays = {port.name: np.zeros(port.shape, port.dtype) for port in network.inputs}
    gaps = np.zeros(requests) if rate is None else _gaps(requests, rate, seed)
    done = [_submit(driver, slot, inputs, float(gap)) for gap in gaps]
    for request in done:
        driver.wait(request)
    return _summary(card, network, done)


def _gaps(requests: int, rate: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).exponential(1 / rate, requests)


def _submit(driver: Driver, slot: int, inputs: Arrays, gap: float) -> Request:
    if gap:
        driver.run_until(driver.card.now_ps + seconds_to_ps(gap))
    return driver.submit(slot, inputs)


def _summary(card: Card, network: Network, done: Sequence[Request]) -> Measurement:
    seconds = (max(request.done_ps for request in done) - card.ready_ps) / PS_PER_S
    images = len(done) * network.images
    latencies = sorted(request.done_ps - request.submitted_ps for request in done)
    p50, p95, p99 = (
        latencies[min(len(done) - 1, int(q * len(done)))] // PS_PER_NS for q in (0.5, 0.95, 0.99)
    )
    stats = card.stats()
    shares = {name: row["utilisation"] for name, row in stats.items() if "utilisation" in row}
    ops = 2 * sum(layer.macs for layer in network.layers)
    idle, energy = card.profile.value("power.idle"), card.profile.value("power.energy_per_op")
    outcomes = [request.outcome for request in done]
    return Measurement(
        images, images / seconds, p50, p95, p99, shares, max(shares, key=lambda n: shares[n]),
        idle * seconds / images + energy * ops, {o: outcomes.count(o) for o in set(outcomes)},
    )  # fmt: skip


@dataclass(frozen=True)
class Path:
    """One way to run a job: its rate, what limits it, and the share of host time that is decode."""

    name: str
    images_per_s: float
    bottleneck: str
    decode_share: float


def compare_job(
    layers: Sequence[Layer],
    profile: Profile,
    image_bytes: int,
    decode_s: float,
    compute_s: float,
    threads: int = 1,
) -> list[Path]:
    """Set a card against the path a job takes today.

    Parameters
    ----------
    layers : one image's layers
    image_bytes : bytes of one decoded, scaled image
    decode_s : seconds one thread takes to decode and scale an image, measured on this machine
    compute_s : seconds one thread takes to compute an image on the CPU, measured likewise
    threads : threads of the job

    Returns
    -------
    The CPU, the card over PCIe, and the card over its network port if it has one. Over PCIe the
    host still decodes; over the network images arrive decoded, so that work is somebody else's.
    """
    if decode_s < 0 or compute_s <= 0 or threads < 1:
        raise InputError(
            f"decode_s {decode_s}, compute_s {compute_s}, threads {threads}; expected times of "
            f"at least 0 and at least one thread"
        )
    today = threads / (decode_s + compute_s)
    limits = dict(predict(layers, profile, image_bytes).limits)
    if decode_s:
        limits["decode"] = threads / decode_s
    paths = [
        Path("cpu", today, "cpu", decode_s / (decode_s + compute_s)),
        _slowest("card over PCIe", limits, decode_s, threads),
    ]
    if "nic.line_rate" in profile:
        share = 1 - HEADER.itemsize / DEFAULT_PAYLOAD
        line = udp_goodput(profile, DEFAULT_PAYLOAD) * share / image_bytes
        limits = predict(layers, profile).limits | {"nic": line}
        paths.append(_slowest("card over network", limits, 0.0, threads))
    return paths


def _slowest(name: str, limits: dict[str, float], decode_s: float, threads: int) -> Path:
    bottleneck = min(limits, key=lambda key: limits[key])
    rate = limits[bottleneck]
    return Path(name, rate, bottleneck, min(1.0, rate * decode_s / threads))


@dataclass(frozen=True)
class RooflinePoint:
    """One layer on the roofline: operations per byte moved, operations per second, its bound."""

    name: str
    ops_per_byte: float
    ops_per_s: float
    roof: float
    bound: str


def roofline(layers: Sequence[Layer], profile: Profile) -> list[RooflinePoint]:
    """Return where every layer of a network lies under one engine's roof."""
    spec = EngineSpec.from_profile(profile)
    peak = 2 * spec.peak_macs * spec.clock_hz
    points = []
    for time in time_layers(layers, spec):
        intensity = 2 * time.macs / max(1, time.n_bytes)
        achieved = 2 * time.macs * PS_PER_S / time.total_ps
        roof = min(peak, intensity * min(spec.bandwidth, spec.port_bandwidth))
        points.append(RooflinePoint(time.name, intensity, achieved, roof, time.bound))
    return points
