"""Faults: every request ends exactly once, with the CPU's values, in bounded simulated time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from card_networks import affine, conv
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import CardError, InputError
from accel.fpga import Card, Driver, DriverSpec, Fault, Faults, Network, Rule, load_profile
from accel.fpga.memory import Buffer
from accel.fpga.network import Arrays
from accel.fpga.request import Request

SPEC = DriverSpec(
    submit=1e-6, notify=1e-6, interrupt_count=1, interrupt_timer=1e-5, depth=8, deadline=1e-3,
    reset_time=1e-3,
)  # fmt: skip
ENDLESS_S = 1.0
CARD_FAULTS = [
    Rule(Fault.DESCRIPTOR_ERROR, at=(0,)),
    Rule(Fault.DESCRIPTOR_ERROR, at=(6, 7, 8, 9)),  # of the c2h descriptors, behind all h2c
    Rule(Fault.COMPLETION_LOST, at=(0,)),
    Rule(Fault.INTERRUPT_LOST, at=(0,)),
    Rule(Fault.COMPLETION_DUPLICATED, at=(0, 1, 2)),
    Rule(Fault.COMPLETION_REORDERED, at=(0,), delay=2e-3),
    Rule(Fault.COMPLETION_STALE, at=(0,), delay=20e-3),
    Rule(Fault.COMPLETION_LATE, at=(0,), delay=4e-3),
    Rule(Fault.DOORBELL_OVERRUN, at=(0, 1)),
    Rule(Fault.DOORBELL_LOST, at=(0, 1)),
    Rule(Fault.ECC_CORRECTED, at=(0, 3)),
    Rule(Fault.ECC_UNCORRECTED, at=(0,)),
    Rule(Fault.PAYLOAD_FLIPPED, at=(0, 1)),
    Rule(Fault.LINK_TIMEOUT, at=(1,)),
    Rule(Fault.LINK_FATAL, at=(2,)),
    Rule(Fault.HANG, at=(0,)),
    Rule(Fault.REMOVAL, at=(3,), delay=1e-3),
    Rule(Fault.FIREWALL, at=(2,)),
    Rule(Fault.THROTTLE, at=(0,)),
    Rule(Fault.SLOW_HOST, at=(0,), delay=1e-4),
    Rule(Fault.LOAD_FAILURE, at=(0,)),
]


def guard_frames(card: Card) -> None:
    """Fail when memory is given back that an engine still owns."""
    free = card.memory.free

    def checked(buffer: Buffer) -> None:
        assert card.scheduler is not None
        assert buffer.address not in card.scheduler.frames
        free(buffer)

    card.memory.free = checked  # type: ignore[method-assign]


def run(
    rules: list[Rule], network: Network, inputs: list[Arrays], seed: int = 0
) -> tuple[Driver, list[Request]]:
    """Run the inputs on a card with faults; check what must hold for every one of them."""
    card = Card("alveo-u50", faults=rules, seed=seed)
    guard_frames(card)
    driver = Driver(card, ring_size=64, spec=SPEC)
    slot = driver.load(network)
    requests = [driver.submit(slot, x) for x in inputs]
    for request, x in zip(requests, inputs, strict=True):
        expected = network.compute(x)
        got = driver.wait(request)
        assert got["y"].tobytes() == expected["y"].tobytes()
        assert request.outcome in ("card", "cpu")
        assert request.slot is None
        assert request.simulated_ns < ENDLESS_S * 1e9
    assert not driver.live
    return driver, requests


@pytest.fixture
def inputs(batch: Callable[..., Arrays]) -> list[Arrays]:
    return [batch() for _ in range(6)]


@pytest.mark.parametrize("rule", CARD_FAULTS, ids=lambda rule: rule.kind.name.lower())
def test_every_request_ends_once_with_the_right_values(
    rule: Rule, network: Callable[..., Network], inputs: list[Arrays]
) -> None:
    driver, requests = run([rule], network(), inputs)
    assert driver.card.faults.fired[rule.kind] == len(rule.at)
    assert [request.number for request in requests] == list(range(6))
    driver.card.run()  # what was under way may still arrive; nobody must be hurt
    driver.collect()
    assert not driver.live


@pytest.mark.parametrize(
    "kind", [rule.kind for rule in CARD_FAULTS if rule.kind is not Fault.THROTTLE],
    ids=lambda kind: kind.name.lower(),
)  # fmt: skip
def test_a_fault_at_every_opportunity_still_ends_every_request(
    kind: Fault, network: Callable[..., Network], inputs: list[Arrays]
) -> None:
    run([Rule(kind, rate=1.0, delay=5e-3)], network(), inputs)


def test_memory_is_given_back_after_faults(
    network: Callable[..., Network], inputs: list[Arrays]
) -> None:
    driver, _ = run([Rule(Fault.HANG, at=(0, 2))], network(), inputs)
    rings = sum(
        ring.buffer.n_bytes for ring in (driver.queue.h2c, driver.queue.c2h, driver.queue.done)
    )
    assert driver.card.host.used == rings
    assert driver.card.memory.used == network().weight_bytes


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        (Rule(Fault.INTERRUPT_LOST, at=(0,)), ["poll"]),
        (Rule(Fault.DOORBELL_LOST, at=(0, 1)), ["poll"]),
        (Rule(Fault.DESCRIPTOR_ERROR, at=(0,)), ["replay"]),
        (Rule(Fault.COMPLETION_LOST, at=(0,)), ["poll", "poll", "abort", "replay"]),
        (Rule(Fault.HANG, at=(0,)), ["poll", "poll", "abort", "reset", "replay"]),
        (Rule(Fault.FIREWALL, at=(0,)), ["reset", "replay"]),
        (Rule(Fault.DESCRIPTOR_ERROR, at=(0, 1)), ["replay", "cpu"]),
        (
            Rule(Fault.HANG, at=(0, 1)),
            ["poll", "poll", "abort", "reset", "replay", "poll", "poll", "abort", "reset", "cpu"],
        ),
        (Rule(Fault.REMOVAL, at=(0,), delay=0.5), ["poll", "poll", "abort", "reset", "cpu"]),
    ],
    ids=lambda value: value.kind.name.lower() if isinstance(value, Rule) else None,
)
def test_recovery_takes_the_steps_in_order(
    rule: Rule, steps: list[str], network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    _, (request,) = run([rule], network(), [batch()])
    assert request.steps == steps


def test_without_fallback_the_request_ends_in_an_error(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    card = Card("alveo-u50", faults=[Rule(Fault.HANG, rate=1.0)])
    driver = Driver(card, spec=SPEC, fallback=False)
    request = driver.submit(driver.load(network()), batch())
    with pytest.raises(CardError, match="request 0 failed after poll, poll, abort, reset, replay"):
        driver.wait(request)
    assert request.outcome == "error"
    assert not driver.live


def test_a_card_that_came_back_is_used_again(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    card = Card("alveo-u50", faults=[Rule(Fault.REMOVAL, at=(0,), delay=0.05)])
    driver = Driver(card, spec=SPEC)
    slot = driver.load(network())
    gone = driver.submit(slot, batch())
    driver.wait(gone)
    assert gone.outcome == "cpu"
    assert card.status_register == 0xFFFFFFFF
    card.run(card.now_ps + 100_000_000_000)
    back = driver.submit(slot, batch())
    driver.wait(back)
    assert (back.outcome, back.steps) == ("card", ["reset"])


def test_card_that_cannot_be_loaded_leaves_the_network_to_the_cpu(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    _, (request,) = run([Rule(Fault.LOAD_FAILURE, rate=1.0)], network(), [batch()])
    assert (request.outcome, request.steps) == ("cpu", ["cpu"])
    strict = Driver(Card("alveo-u50", faults=[Rule(Fault.LOAD_FAILURE, rate=1.0)]), fallback=False)
    with pytest.raises(CardError, match="loading failed 2 times"):
        strict.load(network())


def test_completion_from_before_a_reset_reaches_no_later_request(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    """The stale entry lands in the new ring, in the very slot of the next completion."""
    stale = Rule(Fault.COMPLETION_STALE, at=(0,), delay=4.5e-3)
    driver, requests = run(
        [stale, Rule(Fault.HANG, at=(1,))], network(), [batch() for _ in range(3)]
    )
    assert driver.card.faults.fired[Fault.COMPLETION_STALE] == 1
    assert driver.counts["reset"] >= 1
    assert driver.queue.generation >= 1
    assert {request.outcome for request in requests} == {"card"}


def test_two_drivers_of_one_card_survive_each_others_resets(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    net = network()
    card = Card("alveo-u50", faults=[Rule(Fault.HANG, at=(1,))])
    drivers = [Driver(card, ring_size=64, spec=SPEC) for _ in range(2)]
    slots = [driver.load(net) for driver in drivers]
    inputs = [batch() for _ in range(8)]
    requests = [drivers[i % 2].submit(slots[i % 2], x) for i, x in enumerate(inputs)]
    for i, (request, x) in enumerate(zip(requests, inputs, strict=True)):
        assert drivers[i % 2].wait(request)["y"].tobytes() == net.compute(x)["y"].tobytes()
        assert request.outcome == "card"
    assert drivers[0].counts["reset"] + drivers[1].counts["reset"] == 1


def test_throttled_engine_takes_longer_and_computes_the_same(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    profile = load_profile("alveo-u50").with_values(engine__layer_overhead=0.0,
                                                    engine__image_overhead=0.0)  # fmt: skip
    times = []
    for rules in ([], [Rule(Fault.THROTTLE, rate=1.0)]):
        driver = Driver(Card(profile, faults=rules), spec=SPEC)
        request = driver.submit(driver.load(network()), batch())
        driver.wait(request)
        times.append(request.simulated_ns)
    assert times[0] < times[1]


def test_duplicate_completions_are_counted_and_dropped(
    network: Callable[..., Network], inputs: list[Arrays]
) -> None:
    driver, _ = run([Rule(Fault.COMPLETION_DUPLICATED, rate=1.0)], network(), inputs)
    driver.card.run()
    driver.queue.completions()
    assert driver.queue.stale == 6
    assert not driver.counts


def test_program_that_fails_ends_in_its_own_error_and_the_card_lives_on(
    batch: Callable[..., Arrays], network: Callable[..., Network]
) -> None:
    def broken(arrays: Arrays) -> Arrays:
        raise ZeroDivisionError("no")

    bad = Network("bad", [conv("c", 8, 16, 16)], {"x": ((2, 100), np.uint8)},
                  {"y": ((2, 100), np.float32)}, broken)  # fmt: skip
    driver = Driver(Card("alveo-u50"), spec=SPEC)
    slots = driver.load(bad), driver.load(network())
    first, second = driver.submit(slots[0], batch()), driver.submit(slots[1], batch())
    with pytest.raises(CardError, match="bad: ZeroDivisionError: no"):
        driver.wait(first)
    x = batch()
    assert driver.wait(second)["y"].shape == (2, 100)
    assert np.array_equal(driver.wait(driver.submit(slots[1], x))["y"], affine(x)["y"])


@settings(max_examples=40, deadline=None)
@given(
    rates=st.dictionaries(
        st.sampled_from([rule.kind for rule in CARD_FAULTS]), st.floats(0, 0.3), max_size=6
    ),
    seed=st.integers(0, 2**16),
    batch_size=st.integers(1, 3),
)
def test_any_mixture_of_faults_ends_every_request(
    rates: dict[Fault, float], seed: int, batch_size: int
) -> None:
    rng = np.random.default_rng(seed)
    width = 16
    net = Network("n", [conv("c", 8, 16, 16)], {"x": ((batch_size, width), np.uint8)},
                  {"y": ((batch_size, width), np.float32)}, affine)  # fmt: skip
    inputs = [{"x": rng.integers(0, 256, (batch_size, width), dtype=np.uint8)} for _ in range(12)]
    rules = [Rule(kind, rate=rate, delay=3e-3) for kind, rate in rates.items()]
    run(rules, net, inputs, seed)


def test_host_share_of_a_request_survives_a_reset(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    card = Card("alveo-u50")
    guard_frames(card)
    driver = Driver(card, spec=SPEC)
    net = network()
    net.host_seconds = 5e-4
    slot = driver.load(net)
    x = batch()
    request = driver.submit(slot, x)
    while not request.outputs:
        driver.step()
    card.reset()
    assert driver.wait(request)["y"].tobytes() == net.compute(x)["y"].tobytes()
    assert (request.outcome, request.steps, request.attempts) == ("card", [], 1)
    alone = driver.submit(slot, x)
    driver.wait(alone)
    assert alone.simulated_ns > 2 * 5e5


def test_failing_cpu_fallback_ends_the_request_in_an_error(batch: Callable[..., Arrays]) -> None:
    def broken(arrays: Arrays) -> Arrays:
        raise ZeroDivisionError("no")

    net = Network("bad", [conv("c", 8, 16, 16)], {"x": ((2, 100), np.uint8)},
                  {"y": ((2, 100), np.float32)}, broken)  # fmt: skip
    driver = Driver(Card("alveo-u50", faults=[Rule(Fault.LOAD_FAILURE, rate=1.0)]), spec=SPEC)
    request = driver.submit(driver.load(net), batch())
    with pytest.raises(CardError, match="cpu: no"):
        driver.wait(request)
    assert request.outcome == "error"


def test_small_card_memory_limits_how_much_is_under_way(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    net = network()
    room = net.weight_bytes + 3 * 4096
    card = Card(load_profile("alveo-u50").with_values(memory__capacity=room))
    driver = Driver(card, spec=SPEC)
    slot = driver.load(net)
    inputs = [batch() for _ in range(10)]
    requests = [driver.submit(slot, x) for x in inputs]
    assert len(driver.live) <= 3
    for request, x in zip(requests, inputs, strict=True):
        assert driver.wait(request)["y"].tobytes() == net.compute(x)["y"].tobytes()
        assert request.outcome == "card"


def test_network_the_card_can_never_hold_is_an_error_not_a_fallback(
    network: Callable[..., Network],
) -> None:
    card = Card(load_profile("alveo-u50").with_values(memory__capacity=1000.0))
    with pytest.raises(CardError, match="card memory is full"):
        Driver(card).load(network())


def test_same_seed_strikes_the_same_places() -> None:
    def strikes(seed: int) -> list[bool]:
        faults = Faults([Rule(Fault.HANG, rate=0.5)], seed)
        return [faults.fires(Fault.HANG) for _ in range(64)]

    assert strikes(1) == strikes(1)
    assert strikes(1) != strikes(2)


def test_another_kind_of_fault_does_not_move_the_strikes() -> None:
    alone = Faults([Rule(Fault.HANG, rate=0.5)])
    both = Faults([Rule(Fault.HANG, rate=0.5), Rule(Fault.FIREWALL, rate=0.5)])
    assert [alone.fires(Fault.HANG) for _ in range(32)] == [
        (both.fires(Fault.FIREWALL), both.fires(Fault.HANG))[1] for _ in range(32)
    ]


@pytest.mark.parametrize(("rate", "delay"), [(-0.1, 0.0), (1.1, 0.0), (0.5, -1.0)])
def test_impossible_rules_are_refused(rate: float, delay: float) -> None:
    with pytest.raises(InputError, match="expected 0"):
        Rule(Fault.HANG, rate=rate, delay=delay)
    with pytest.raises(InputError, match="not by 'hang'"):
        Faults(["hang"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="seed is -1"):
        Faults(seed=-1)
    with pytest.raises(InputError, match="two rules for HANG"):
        Faults([Rule(Fault.HANG), Rule(Fault.HANG)])
