"""Reports: the simulated run agrees with the arithmetic, and names what limits a job."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from accel.errors import InputError
from accel.fpga import Card, Fault, Network, Rule, load_profile, predict, topology
from accel.fpga.report import compare_job, measure, roofline

IMAGE_BYTES = 224 * 224 * 3


@pytest.mark.parametrize("card", ["alveo-u50", "alveo-u280", "zcu104", "kv260", "alveo-u250"])
@pytest.mark.parametrize("name", ["inception_v1", "vgg16"])
def test_full_card_reaches_the_predicted_rate(card: str, name: str) -> None:
    layers = topology(name)
    expected = predict(layers, load_profile(card))
    found = measure(Card(card, trace=False), Network.of_shapes(name, layers, IMAGE_BYTES), 300)
    assert found.images_per_s == pytest.approx(expected.images_per_s, rel=0.06)
    kind = "engine" if expected.bottleneck == "engines" else "card memory"
    assert found.bottleneck.startswith(kind)
    assert found.joules == pytest.approx(expected.joules, rel=0.06)
    assert found.outcomes == {"card": 300}


def test_latency_rises_with_the_load() -> None:
    layers = topology("inception_v1")
    full = predict(layers, load_profile("alveo-u50")).images_per_s
    runs = [
        measure(
            Card("alveo-u50", trace=False),
            Network.of_shapes("inception_v1", layers, IMAGE_BYTES),
            400,
            rate=load * full,
        )
        for load in (0.1, 0.7, 0.95)
    ]
    one = predict(layers, load_profile("alveo-u50")).latency_s * 1e9
    assert one < runs[0].p50_ns < 1.05 * one
    assert runs[0].p99_ns < runs[1].p99_ns < runs[2].p99_ns
    for run in runs:
        assert run.p50_ns <= run.p95_ns <= run.p99_ns
    assert runs[0].utilisation["engine 0"] < runs[2].utilisation["engine 0"]
    assert "latency p50" in str(runs[0])


def test_run_with_faults_says_where_requests_ended(network: Callable[..., Network]) -> None:
    card = Card("alveo-u50", faults=[Rule(Fault.DESCRIPTOR_ERROR, rate=0.4)])
    found = measure(card, network(), 50)
    assert sum(found.outcomes.values()) == 50
    assert set(found.outcomes) == {"card", "cpu"}


@pytest.mark.parametrize(("requests", "rate"), [(0, None), (10**7, None), (10, 0.0), (10, -1.0)])
def test_impossible_loads_are_refused(
    requests: int, rate: float | None, network: Callable[..., Network]
) -> None:
    with pytest.raises(InputError, match="expected"):
        measure(Card("alveo-u50"), network(), requests, rate)


def test_job_is_bound_by_decode_before_it_is_bound_by_the_card() -> None:
    """A thread that decodes in 4 ms feeds no card: the report must show it."""
    layers, card = topology("inception_v1"), load_profile("alveo-u50")
    cpu, pcie, network = compare_job(layers, card, IMAGE_BYTES, 4e-3, 20e-3, threads=2)
    assert cpu.images_per_s == pytest.approx(2 / 24e-3)
    assert cpu.decode_share == pytest.approx(4 / 24)
    assert (pcie.images_per_s, pcie.bottleneck, pcie.decode_share) == (500.0, "decode", 1.0)
    assert network.bottleneck == "engines"
    assert network.images_per_s > 2 * pcie.images_per_s
    assert len(compare_job(layers, load_profile("zcu102"), IMAGE_BYTES, 0.0, 1e-3)) == 2
    with pytest.raises(InputError, match="at least one thread"):
        compare_job(layers, card, IMAGE_BYTES, 0.0, 1e-3, threads=0)


def test_no_layer_lies_above_its_roof() -> None:
    for name in ("vgg16", "mobilenet_v2"):
        for point in roofline(topology(name), load_profile("alveo-u50")):
            assert 0 < point.ops_per_s <= point.roof * 1.0001, point.name
