"""The estimate behind `accel estimate`: a network on a card, fed by one of three ways of ingest.

`none` is what vendors publish: the engines alone, images already in card memory. `pcie` and `nic`
run the simulated card with a fixed number of requests in flight; a finished one makes room for the
next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from accel.errors import InputError
from accel.fpga.card import Card
from accel.fpga.clock import PS_PER_S
from accel.fpga.driver import Driver
from accel.fpga.engine import EngineSpec
from accel.fpga.job import Job
from accel.fpga.network import Arrays, Network
from accel.fpga.nic_client import NicClient
from accel.fpga.predict import predict
from accel.fpga.profile import Profile

Ingest = Literal["pcie", "nic", "none"]
INGESTS: tuple[Ingest, ...] = ("pcie", "nic", "none")
REQUESTS = 200
ROUNDS = 8
LIMITS = {"batch": 1024, "queues": 16, "streams": 256}
MAX_IN_FLIGHT_BYTES = 1 << 30
NIC_DEADLINE_S = 1.0
"""Far beyond any queue here, so that a loaded card is not mistaken for a lost packet."""


@dataclass(frozen=True)
class Load:
    """How a card is fed: images in a request, queues, and requests in flight on each queue."""

    batch: int = 1
    queues: int = 1
    streams: int = 16

    def __post_init__(self) -> None:
        for name, most in LIMITS.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise InputError(f"{name} is {value}; expected 1 to {most}")


@dataclass(frozen=True)
class Estimate:
    """What a card gives; times in ms, energy in J, idle power included.

    Attributes
    ----------
    latency_ms : p50, p95 and p99 of a request, from submission to the end
    utilisation : share of the time that each component is busy, the engines together
    error_band : lowest and highest fps within twice the error on networks a fit has not seen
    host_operators : what the engines lack: it runs on the host, in `host_ms` an image; it is no
        part of the engines alone (ingest none)
    """

    fps: float
    latency_ms: dict[str, float]
    utilisation: dict[str, float]
    bottleneck: str
    joules_per_image: float
    error_band: tuple[float, float]
    host_operators: dict[str, int]
    host_ms: float


def estimate(
    job: Job, profile: Profile, ingest: Ingest = "pcie", load: Load | None = None
) -> Estimate:
    """Estimate a network on a card; raises as `simulate` does."""
    return simulate(job, profile, ingest, load)[0]


def simulate(
    job: Job,
    profile: Profile,
    ingest: Ingest = "pcie",
    load: Load | None = None,
    *,
    faults: str = "",
    seed: int = 0,
    trace: bool = False,
) -> tuple[Estimate, Card | None]:
    """Estimate a network on a card; return the card that ran too, None for the engines alone.

    `faults` and `seed` are those of `Card`; with `trace` the card keeps what it did.

    Raises
    ------
    InputError
        An unknown ingest, more bytes in flight than 1 GiB, or faults for the engines alone.
    CardError
        The card has no engine, no network port, or its engines run none of the layers.
    """
    load = load or Load()
    if ingest not in INGESTS:
        raise InputError(f"ingest {ingest!r} is not known; expected {', '.join(INGESTS)}")
    predict(job.layers, profile)  # a card without engines is refused before anything is allocated
    if ingest == "none":
        if faults:
            raise InputError("ingest none is arithmetic, where nothing can fail; use pcie or nic")
        return _engines(job, profile, load), None
    in_flight = load.batch * load.queues * load.streams * (job.input_bytes + job.output_bytes)
    if in_flight > MAX_IN_FLIGHT_BYTES:
        raise InputError(
            f"batch x queues x streams puts {in_flight} bytes in flight; expected at most "
            f"{MAX_IN_FLIGHT_BYTES}: lower one of them"
        )
    card = Card(profile, faults=faults, seed=seed, trace=trace)
    return (_pcie if ingest == "pcie" else _nic)(card, job, load), card


def _engines(job: Job, profile: Profile, load: Load) -> Estimate:
    found = predict(job.layers, profile, pixels=job.pixels)
    rounds = -(-load.batch // EngineSpec.from_profile(profile).count)
    latency = max(rounds * found.latency_s, load.batch / found.images_per_s) * 1e3
    shares = {name: found.images_per_s / limit for name, limit in found.limits.items()}
    latencies = dict.fromkeys(("p50", "p95", "p99"), latency)
    return _summary(job, profile, found.images_per_s, latencies, shares)


def _pcie(card: Card, job: Job, load: Load) -> Estimate:
    network, inputs = _network(job, load.batch, card.profile)
    drivers = [Driver(card) for _ in range(load.queues)]
    slots = [driver.load(network) for driver in drivers]
    waiting = deque(
        (driver, driver.submit(slot, inputs))
        for _ in range(load.streams)
        for driver, slot in zip(drivers, slots, strict=True)
    )
    spans: list[tuple[int, int]] = []
    left = _requests(load) - len(waiting)
    while waiting:
        driver, request = waiting.popleft()
        driver.wait(request)
        spans.append((request.submitted_ps, request.done_ps))
        if left > 0:
            left -= 1
            waiting.append((driver, driver.submit(request.program, inputs)))
    return _simulated(job, card, load, spans, _shares(card, drivers))


def _nic(card: Card, job: Job, load: Load) -> Estimate:
    network, inputs = _network(job, load.batch)
    client = NicClient(card, card.load(network), deadline=NIC_DEADLINE_S)
    room = int(card.profile.value("nic.slots"))
    waiting = deque(client.submit(inputs) for _ in range(min(room, load.streams * load.queues)))
    spans: list[tuple[int, int]] = []
    left = _requests(load) - len(waiting)
    while waiting:
        exchange = waiting.popleft()
        client.wait(exchange)
        spans.append((exchange.started_ps, exchange.done_ps))
        if left > 0:
            left -= 1
            waiting.append(client.submit(inputs))
    return _simulated(job, card, load, spans, _shares(card, []) | client.nic.utilisation())


def _network(job: Job, batch: int, host: Profile | None = None) -> tuple[Network, Arrays]:
    """The job as a network; `host` scales its images and runs what the engines lack."""
    stage = host is not None and "host.pixels_per_s" in host
    network = Network.of_shapes(
        job.name, job.layers, job.input_bytes, job.output_bytes, batch,
        host_seconds=job.host_seconds if host is not None else 0.0,
        stage_seconds=job.pixels / host.value("host.pixels_per_s") if host and stage else 0.0,
    )  # fmt: skip
    return network, {port.name: np.zeros(port.shape, port.dtype) for port in network.inputs}


def _requests(load: Load) -> int:
    return max(REQUESTS, ROUNDS * load.queues * load.streams)


def _shares(card: Card, drivers: Sequence[Driver]) -> dict[str, float]:
    """Share of the time each component was busy; the engines count as one, by their mean."""
    elapsed = max(1, card.now_ps - card.ready_ps)
    shares = {n: row["utilisation"] for n, row in card.stats().items() if "utilisation" in row}
    engines = [shares.pop(name) for name in list(shares) if name.startswith("engine ")]
    hosts = [min(1.0, driver.host.busy_ps / elapsed) for driver in drivers]
    threads = {"host": sum(hosts) / len(hosts)} if hosts else {}
    return {"engines": sum(engines) / len(engines)} | threads | shares


def _simulated(
    job: Job, card: Card, load: Load, spans: list[tuple[int, int]], shares: dict[str, float]
) -> Estimate:
    seconds = (max(end for _, end in spans) - spans[0][0]) / PS_PER_S
    times = sorted((end - start) / PS_PER_S * 1e3 for start, end in spans)
    latencies = {f"p{q}": times[min(len(times) - 1, q * len(times) // 100)] for q in (50, 95, 99)}
    return _summary(job, card.profile, len(spans) * load.batch / seconds, latencies, shares)


def _summary(
    job: Job, profile: Profile, fps: float, latencies: dict[str, float], shares: dict[str, float]
) -> Estimate:
    ops = 2 * sum(layer.macs for layer in job.layers)
    joules = profile.value("power.idle") / fps + profile.value("power.energy_per_op") * ops
    band = 2 * profile.value("engine.error")
    bottleneck = max(shares, key=lambda name: shares[name])
    return Estimate(
        fps, latencies, shares, bottleneck, joules, (fps * (1 - band), fps * (1 + band)),
        dict(job.host_operators), job.host_seconds * 1e3,
    )  # fmt: skip
