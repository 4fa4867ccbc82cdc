"""Strike a card with one fault, seed after seed, and count what must never happen.

A small network whose results are known runs on a card; its requests differ, so that an answer that
reaches the wrong one is seen. Every request must end exactly once, with the right values, in
bounded simulated time, and no memory may be given back while an engine owns it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from accel.errors import CardError
from accel.fpga.card import Card
from accel.fpga.clock import PS_PER_S
from accel.fpga.driver import Driver
from accel.fpga.faults import Fault, Rule
from accel.fpga.memory import Buffer
from accel.fpga.network import Arrays, Network
from accel.fpga.nic_client import NicClient
from accel.fpga.request import DriverSpec
from accel.fpga.stack import Stack

REQUESTS = 8
SHAPE = (2, 96)
RATES = (0.02, 0.4)
PACKET_RATES = (0.01, 0.1)
PACKET_BYTES = 64
SPEC = DriverSpec(
    submit=1e-6, notify=1e-6, interrupt_count=1, interrupt_timer=1e-5, depth=8, deadline=1e-3,
    reset_time=1e-3,
)  # fmt: skip
DELAYS = {
    Fault.COMPLETION_REORDERED: 2e-3, Fault.COMPLETION_STALE: 2e-2, Fault.COMPLETION_LATE: 4e-3,
    Fault.REMOVAL: 1e-3,
}  # fmt: skip
"""Seconds that go with the faults here, where deadlines are of a millisecond."""

BOUND_S = 0.5
"""Far beyond all attempts of all requests one after the other, resets included."""


@dataclass
class Count:
    """What one fault did over all seeds; `lost` to `slow` must stay 0.

    Attributes
    ----------
    struck : how often the fault fired
    outcomes : requests by how they ended: "card", "cpu" or "error"
    lost, duplicated : requests that ended not at all, or more than once
    wrong : results that differ from the network's
    stolen : memory given back while an engine owned it
    slow : requests that took longer than the bound
    slowest_s : longest simulated time of a request
    """

    kind: Fault
    seeds: int = 0
    struck: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    stolen: int = 0
    slow: int = 0
    slowest_s: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether nothing happened that must not."""
        return not (self.lost or self.duplicated or self.wrong or self.stolen or self.slow)


def strike(kind: Fault, seeds: Sequence[int]) -> Count:
    """Run the campaign of one fault over `seeds`; each draws its own rate and requests."""
    count = Count(kind)
    run = _over_network if kind.name.startswith("PACKET_") else _over_pcie
    for seed in seeds:
        rng = np.random.default_rng(seed)
        run(count, rng, seed)
        count.seeds += 1
    return count


def network() -> Network:
    """Return the network of the campaign: y = 3 x + row, float32, of two layers."""
    layers = Stack(14, 64).conv(64).conv(128).layers
    return Network(
        "campaign", layers, {"x": (SHAPE, np.uint8)}, {"y": (SHAPE, np.float32)}, _values
    )


def _values(arrays: Arrays) -> Arrays:
    rows = np.arange(SHAPE[0], dtype=np.float32).reshape(-1, 1)
    return {"y": 3 * arrays["x"].astype(np.float32) + rows}


def _inputs(rng: np.random.Generator) -> list[Arrays]:
    """Return different inputs for every request."""
    drawn = rng.integers(0, 256, (REQUESTS, *SHAPE), dtype=np.uint8)
    drawn[:, 0, 0] = np.arange(REQUESTS)
    return [{"x": x} for x in drawn]


def _over_pcie(count: Count, rng: np.random.Generator, seed: int) -> None:
    rule = Rule(count.kind, rate=rng.uniform(*RATES), delay=DELAYS.get(count.kind))
    card = Card("alveo-u50", faults=[rule], seed=seed)
    _watch(card, count)
    driver = Driver(card, ring_size=64, spec=replace(SPEC, attempts=2 + seed % 2))
    ended: Counter[int] = Counter()
    _watch_ends(driver, ended)
    net, inputs = network(), _inputs(rng)
    slot = driver.load(net)
    requests = [driver.submit(slot, x) for x in inputs]
    for request, x in zip(requests, inputs, strict=True):
        outputs = driver.wait(request)
        count.outcomes[request.outcome] += 1
        count.wrong += outputs["y"].tobytes() != _values(x)["y"].tobytes()
        _time(count, (request.done_ps - request.submitted_ps) / PS_PER_S)
    card.run()  # what was under way may still land; nobody must be hurt
    driver.collect()
    count.lost += sum(ended[request.number] == 0 for request in requests)
    count.duplicated += sum(ended[request.number] > 1 for request in requests)
    count.struck += card.faults.fired[count.kind]


def _over_network(count: Count, rng: np.random.Generator, seed: int) -> None:
    rule = Rule(count.kind, rate=rng.uniform(*PACKET_RATES))
    card = Card("alveo-u280", faults=[rule], seed=seed)
    _watch(card, count)
    net, inputs = network(), _inputs(rng)
    client = NicClient(card, card.load(net), payload=PACKET_BYTES, attempts=20)
    exchanges = [client.submit(x) for x in inputs]
    for exchange, x in zip(exchanges, inputs, strict=True):
        try:
            outputs = client.wait(exchange)
        except CardError:
            count.outcomes["error"] += 1
            continue
        count.outcomes["card"] += 1
        count.wrong += outputs["y"].tobytes() != _values(x)["y"].tobytes()
        _time(count, exchange.simulated_ns / 1e9)
    card.run()
    count.lost += client.waiting
    count.struck += card.faults.fired[count.kind]


def _time(count: Count, seconds: float) -> None:
    count.slowest_s = max(count.slowest_s, seconds)
    count.slow += seconds > BOUND_S


def _watch(card: Card, count: Count) -> None:
    """Count memory given back that an engine still owns."""
    free, scheduler = card.memory.free, card.scheduler
    assert scheduler is not None  # these cards compute

    def checked(buffer: Buffer) -> None:
        count.stolen += buffer.address in scheduler.frames
        free(buffer)

    card.memory.free = checked  # type: ignore[method-assign]


def _watch_ends(driver: Driver, ended: Counter[int]) -> None:
    """Count how often each request leaves the list of live ones."""

    class Live(dict[int, object]):
        def __delitem__(self, number: int) -> None:
            ended[number] += 1
            super().__delitem__(number)

    driver.live = Live()  # type: ignore[assignment]
