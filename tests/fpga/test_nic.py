"""The network port: line arithmetic, reassembly, requests that end once whatever befalls them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import CardError, InputError
from accel.fpga import Card, Fault, Network, Rule, load_profile
from accel.fpga.network import Arrays
from accel.fpga.nic import Nic
from accel.fpga.nic_client import NicClient
from accel.fpga.packet import HEADER, Assembly, split, udp_goodput, wire_bytes


def test_goodput_is_that_of_the_published_measurement(shared: Path) -> None:
    with (shared / "calibration/nic.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        rate = udp_goodput(load_profile("alveo-u280"), int(row["payload_bytes"])) * 8 / 1e9
        assert rate == pytest.approx(float(row["throughput_Gbps"]), rel=1e-4)


def test_short_payloads_are_padded_to_the_shortest_frame() -> None:
    assert wire_bytes(1) == wire_bytes(18) == 84
    assert wire_bytes(19) == 85
    for payload in (0, -1, 9000):
        with pytest.raises(InputError, match="is not possible"):
            wire_bytes(payload)


@settings(deadline=None)
@given(size=st.integers(1, 5000), payload=st.integers(25, 2000))
def test_packets_put_together_give_the_data(size: int, payload: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    packets = split(data, 3, 1, payload)
    again = np.zeros(size, np.uint8)
    assembly = Assembly(size, 1)
    complete = []
    for packet in reversed(packets):
        assert len(packet) <= payload
        header = np.frombuffer(packet[: HEADER.itemsize], HEADER)[0]
        start, length = int(header["offset"]), int(header["length"])
        again[start : start + length] = np.frombuffer(packet[HEADER.itemsize :], np.uint8)
        complete.append(assembly.add(start, length))
        assert not assembly.add(start, length)  # a duplicate completes nothing
    assert complete == [False] * (len(packets) - 1) + [True]
    assert np.array_equal(again, data)


def client_of(network: Network, rules: list[Rule] | None = None, payload: int = 64) -> NicClient:
    card = Card("alveo-u280", faults=rules or [])
    return NicClient(card, card.load(network), payload=payload)


def test_frames_over_the_network_touch_neither_host_nor_pcie(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    net, inputs = network(), [batch() for _ in range(10)]
    client = client_of(net)
    busy = client.card.link.up.busy_ps, client.card.link.down.busy_ps
    exchanges = [client.submit(x) for x in inputs]
    for exchange, x in zip(exchanges, inputs, strict=True):
        assert client.wait(exchange)["y"].tobytes() == net.compute(x)["y"].tobytes()
        assert exchange.attempts == 1
    client.card.run()
    assert (client.card.link.up.busy_ps, client.card.link.down.busy_ps) == busy
    assert client.card.host.used == 0
    assert client.card.memory.used == net.weight_bytes
    assert client.nic.counts == {"frames": 10}


def test_time_over_the_network_is_line_parser_engine_line(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    net = network(batch=1)
    client = client_of(net, payload=1408)
    exchange = client.submit(batch(rows=1))
    client.wait(exchange)
    assert client.card.scheduler is not None
    engine_ps = client.card.scheduler.loaded[0].image_ps
    line_ps = (wire_bytes(24 + net.input_bytes) + wire_bytes(24 + net.output_bytes)) * 80
    parser_ps = 4 * 10**12 / 322_265_625  # 24 + 128 + 46 bytes are four words
    latency_ps = 2 * 1_500_000
    expected = engine_ps + line_ps + parser_ps + latency_ps
    assert exchange.simulated_ns == pytest.approx(expected / 1000, abs=1)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(Fault.PACKET_LOST, at=(1, 7)),
        Rule(Fault.PACKET_TRUNCATED, at=(2, 3)),
        Rule(Fault.PACKET_DUPLICATED, rate=1.0),
        Rule(Fault.PACKET_REORDERED, at=(0, 5), delay=3e-6),
        Rule(Fault.PACKET_REORDERED, at=(0, 5), delay=2e-3),
        Rule(Fault.PACKET_LOST, rate=0.1),
    ],
)
def test_requests_end_once_with_the_right_values(
    rule: Rule, network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    net, inputs = network(), [batch() for _ in range(8)]
    client = client_of(net, [rule])
    client.attempts = 12
    exchanges = [client.submit(x) for x in inputs]
    for exchange, x in zip(exchanges, inputs, strict=True):
        assert client.wait(exchange)["y"].tobytes() == net.compute(x)["y"].tobytes()
    client.card.run()
    assert client.card.faults.fired[rule.kind] > 0
    assert client.card.memory.used == net.weight_bytes


def test_request_without_an_answer_ends_in_an_error(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    client = client_of(network(), [Rule(Fault.PACKET_LOST, rate=1.0)])
    exchange = client.submit(batch())
    with pytest.raises(CardError, match="no answer over the network to request 0 after 4"):
        client.wait(exchange)


def test_odd_packets_are_counted_and_dropped(network: Callable[..., Network]) -> None:
    net = network()
    client = client_of(net)
    good = split(np.zeros(net.input_bytes, np.uint8), 0, 1, 1408)[0]
    wrong_total = split(np.zeros(net.input_bytes + 1, np.uint8), 0, 1, 1408)[0]
    altered = good[:-1] + b"\x01"
    for packet in (b"x", good[:30], wrong_total, altered):
        client.nic.send(packet)
    client.card.run()
    assert client.nic.counts == {"malformed": 4}


def test_incomplete_frames_give_their_slot_back(network: Callable[..., Network]) -> None:
    net = network()
    client = client_of(net)
    slots = int(client.card.profile.value("nic.slots"))
    for request in range(slots + 3):
        client.nic.send(split(np.zeros(net.input_bytes, np.uint8), request, 1, 64)[0])
    client.card.run()
    assert client.nic.counts == {"no slot": 3, "expired": slots}
    assert client.card.memory.used == net.weight_bytes


def test_frames_lost_in_a_reset_are_sent_again(
    network: Callable[..., Network], batch: Callable[..., Arrays]
) -> None:
    net, x = network(), batch()
    client = client_of(net)
    exchange = client.submit(x)
    client.card.run(client.card.now_ps + 50_000_000)  # the frame has arrived, the engine is at work
    client.card.reset()
    assert client.nic.counts == {"reset": 1}
    assert client.wait(exchange)["y"].tobytes() == net.compute(x)["y"].tobytes()
    assert exchange.attempts == 2


def test_card_without_port_and_unknown_program_are_refused(
    network: Callable[..., Network],
) -> None:
    with pytest.raises(CardError, match="has no network port"):
        Nic(Card("zcu102"), 0, lambda _: None)
    with pytest.raises(InputError, match="program 0 is not loaded"):
        Nic(Card("alveo-u280"), 0, lambda _: None)
    with pytest.raises(InputError, match="no room behind the 24-byte header"):
        split(np.zeros(4, np.uint8), 0, 0, 24)
