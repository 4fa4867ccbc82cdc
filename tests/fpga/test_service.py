"""A network behind the card's port: results for frames whose bytes the application never sees."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from card_networks import affine

from accel.errors import CardError, InputError
from accel.fpga import Card, Fault, Ingest, Network, Result, Rule, Service, send
from accel.fpga.frame import Transport

WIDTH = 100


def serve(
    network: Network, frames: list[tuple[str, bytes]], transport: Transport = "tcp",
    rules: list[Rule] | None = None,
) -> list[Result]:  # fmt: skip
    card = Card("alveo-u280", faults=rules or [])
    slot = card.load(network)
    used = card.memory.used
    with Service(card, slot, network, Ingest(card, transport), deadline=1e-3) as service:
        sender = threading.Thread(target=send, args=(service.address, frames, transport))
        sender.start()
        found = list(islice(service.results(timeout=5.0), len(frames)))
        sender.join()
    assert card.memory.used == used
    return found


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return rng.integers(0, 256, (11, WIDTH), dtype=np.uint8)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("batch", [1, 4])
def test_results_are_those_of_the_network(
    network: Callable[..., Network], images: np.ndarray, transport: Transport, batch: int
) -> None:
    frames = [(str(i), row.tobytes()) for i, row in enumerate(images)]
    found = serve(network(batch=batch), frames, transport)
    assert [result.name for result in found] == [name for name, _ in frames]
    assert {result.outcome for result in found} == {"card"}
    for result, row in zip(found, images, strict=True):
        plain = affine({"x": row[None]})["y"][0]
        assert (result.outputs["y"] - plain).min() == (result.outputs["y"] - plain).max()  # row no.
        if batch == 1:
            assert result.outputs["y"].tobytes() == plain.tobytes()
        assert result.simulated_ns > 0


def test_frame_of_a_wrong_length_is_an_error_and_the_rest_goes_on(
    network: Callable[..., Network], images: np.ndarray
) -> None:
    frames = [("bad", b"xyz"), *((str(i), row.tobytes()) for i, row in enumerate(images))]
    found = {result.name: result for result in serve(network(batch=1), frames)}
    assert isinstance(found["bad"].error, InputError)
    assert "frame 'bad' has 3 bytes; an image of 'x' has 100: uint8 (100,)" in str(
        found["bad"].error
    )
    assert sum(result.outcome == "card" for result in found.values()) == 11


@pytest.mark.parametrize(
    ("rule", "outcomes"),
    [
        (Rule(Fault.HANG, at=(0,)), {"card"}),
        (Rule(Fault.HANG, rate=1.0), {"cpu"}),
        (Rule(Fault.ECC_UNCORRECTED, at=(0,)), {"card"}),
        (Rule(Fault.ECC_UNCORRECTED, rate=1.0), {"cpu"}),
    ],
)
def test_failing_card_costs_no_frame(
    network: Callable[..., Network], images: np.ndarray, rule: Rule, outcomes: set[str]
) -> None:
    frames = [(str(i), row.tobytes()) for i, row in enumerate(images)]
    found = serve(network(batch=1), frames, rules=[rule])
    assert [result.name for result in found] == [name for name, _ in frames]
    assert {result.outcome for result in found} == outcomes
    for result, row in zip(found, images, strict=True):
        assert result.outputs["y"].tobytes() == affine({"x": row[None]})["y"][0].tobytes()


def test_failing_network_ends_its_frames_in_errors(images: np.ndarray) -> None:  # type: ignore[type-arg]
    def broken(arrays: object) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        raise ZeroDivisionError("no")

    net = Network("bad", [], {"x": ((1, WIDTH), np.uint8)}, {"y": ((1, WIDTH), np.float32)}, broken)
    (result,) = serve(net, [("a", images[0].tobytes())])
    assert (result.outcome, result.outputs) == ("error", {})
    assert "bad: ZeroDivisionError: no" in str(result.error)


def test_network_of_two_inputs_is_refused() -> None:
    card = Card("alveo-u280")
    shapes = {"a": ((1, 4), np.uint8), "b": ((1, 4), np.uint8)}
    net = Network("two", [], shapes, {"y": ((1, 4), np.uint8)}, lambda x: {"y": x["a"]})
    with Ingest(card) as ingest, pytest.raises(InputError, match="two has 2 inputs"):
        Service(card, card.load(net), net, ingest)


def test_network_that_is_not_on_the_card_is_refused(network: Callable[..., Network]) -> None:
    for program in (-1, 0):
        card = Card("alveo-u280")
        with Ingest(card) as ingest, pytest.raises(CardError, match="affine is not loaded"):
            Service(card, program, network(), ingest)
