"""Engine equations, counted by hand, and the topologies they are fitted on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accel.errors import CardError, InputError
from accel.fpga import load_profile, profile_names
from accel.fpga.engine import (
    EngineSpec,
    image_ps,
    images_per_second,
    layer_bytes,
    layer_cycles,
    layer_time,
    time_layers,
)
from accel.fpga.predict import predict
from accel.fpga.topologies import TOPOLOGIES, topology
from accel.workload import Layer

SPEC = EngineSpec(
    pixels=8, inputs=16, outputs=16, count=3, clock_hz=1e9, efficiency=1.0, bandwidth=1e9,
    total_bandwidth=2e9, share=2.0, spill=0.5, on_chip_bytes=100.0, layer_overhead=1000,
    image_overhead=1e-5,
)  # fmt: skip


def layer(op: str, oh: int, ow: int, ic: int, oc: int, kernel: int, groups: int = 1) -> Layer:
    weights = kernel * kernel * (ic // groups) * oc
    return Layer(
        "x", op, 1, oh, ow, oc, ic, kernel, kernel, groups, oh * ow * weights, weights, 300, 200
    )


@pytest.mark.parametrize(
    ("shape", "cycles"),
    [
        (layer("Conv", 7, 7, 512, 512, 3), 7 * 1 * 9 * 32 * 32),
        (layer("Conv", 7, 9, 17, 33, 1), 7 * 2 * 2 * 3),
        (layer("Conv", 112, 112, 3, 64, 7), 112 * 14 * 7 * 2 * 4),  # 3 x 7 inputs in two steps
        (layer("Conv", 14, 14, 512, 512, 3, 512), 14 * 2 * 9 * 32),
        (layer("Conv", 14, 14, 64, 64, 3, 4), 4 * 14 * 2 * 9),
        (layer("Gemm", 1, 1, 2048, 1000, 1), 128 * 63),
    ],
)
def test_cycles_follow_the_loop_order(shape: Layer, cycles: int) -> None:
    assert layer_cycles(shape, SPEC) == cycles


def test_bytes_are_shared_weights_and_activations_beyond_the_chip() -> None:
    shape = layer("Conv", 1, 1, 16, 16, 1)
    assert layer_bytes(shape, SPEC) == 256 // 2 + (500 - 100) // 2
    assert layer_bytes(shape, replace(SPEC, on_chip_bytes=500.0)) == 128


def test_the_slower_of_array_and_memory_decides() -> None:
    time = layer_time(layer("Conv", 1, 1, 16, 16, 1), SPEC)
    assert (time.cycles, time.compute_ps, time.memory_ps) == (1, 1000, 328_000)
    assert time.total_ps == 328_000 + 1_000_000
    assert time.bound == "overhead"
    quick = replace(SPEC, layer_overhead=0.0)
    assert layer_time(layer("Conv", 1, 1, 16, 16, 1), quick).bound == "memory"
    long = layer_time(layer("Conv", 100, 100, 16, 16, 1), SPEC)
    assert (long.compute_ps, long.bound) == (100 * 13 * 1000, "compute")


def test_half_the_clock_doubles_all_but_the_memory() -> None:
    shape = layer("Conv", 100, 100, 16, 16, 1)
    full, half = layer_time(shape, SPEC), layer_time(shape, SPEC, 0.5)
    assert half.compute_ps == 2 * full.compute_ps
    assert half.total_ps == 2 * full.total_ps
    assert half.memory_ps == full.memory_ps
    narrow = replace(SPEC, port=0.5)  # half a byte a cycle: the port becomes the limit
    assert layer_time(shape, narrow, 0.5).memory_ps == 4 * full.memory_ps


def test_images_per_second_is_capped_by_shared_memory() -> None:
    layers = [layer("Conv", 1, 1, 16, 16, 1)] * 2
    one = image_ps(time_layers(layers, SPEC), SPEC)
    assert one == 2 * 1_328_000 + 10_000_000
    assert images_per_second(layers, SPEC) == pytest.approx(3e12 / one)
    narrow = replace(SPEC, total_bandwidth=1e6)
    assert images_per_second(layers, narrow) == pytest.approx(1e6 / (2 * 328))


def test_engine_without_dense_layers_leaves_them_out() -> None:
    layers = [layer("Conv", 1, 1, 16, 16, 1), layer("Gemm", 1, 1, 16, 16, 1)]
    assert len(time_layers(layers, SPEC)) == 2
    assert [t.op for t in time_layers(layers, replace(SPEC, dense=False))] == ["Conv"]


@pytest.mark.parametrize(
    ("name", "giga_ops"),
    [
        ("inception_v1", 3.16), ("inception_v3", 11.4), ("resnet18", 3.65), ("squeezenet", 0.76),
        ("resnet152_slim", 21.83), ("vgg16", 30.96), ("yolo_v2", 34.0), ("mobilenet_v1", 1.14),
        ("mobilenet_v2", 0.59), ("resnet50", 7.7), ("resnet101_slim", 14.4),
        ("resnet50_slim", 6.97), ("vgg19", 39.28), ("yolo_v3", 65.42),
    ],
)  # fmt: skip
def test_topology_has_the_published_number_of_operations(name: str, giga_ops: float) -> None:
    assert 2e-9 * sum(x.macs for x in topology(name)) == pytest.approx(giga_ops, rel=0.03)


def test_unknown_topology_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="known: inception_v1"):
        topology("resnet51")


def test_every_quantity_of_every_profile_has_unit_status_and_source() -> None:
    for name in profile_names():
        profile = load_profile(name)
        assert len(profile) > 20
        for key, quantity in profile.items():
            assert quantity.unit, (name, key)
            assert quantity.source, (name, key)
            assert quantity.value >= 0, (name, key)


def test_unknown_quantity_names_its_neighbour() -> None:
    with pytest.raises(CardError, match=r"has no 'link.lane'; did you mean link.lanes"):
        load_profile("alveo-u50").value("link.lane")


def test_replaced_quantity_is_no_longer_published() -> None:
    profile = load_profile("alveo-u50").with_values(engine__clock=2.7e8)
    assert (profile["engine.clock"].value, profile["engine.clock"].status) == (2.7e8, "assumed")
    assert load_profile("alveo-u50")["engine.clock"].value == 3e8


def test_network_the_engine_runs_nothing_of_is_refused() -> None:
    gemm = [layer("Gemm", 1, 1, 16, 16, 1)]
    with pytest.raises(CardError, match="run none of the network's layers"):
        predict(gemm, load_profile("alveo-u250"))
    bare = replace(SPEC, dense=False, image_overhead=0.0)
    assert images_per_second(gemm, bare) == float("inf")


def test_prediction_names_the_bottleneck() -> None:
    layers, card = topology("inception_v1"), load_profile("zcu102")
    free = predict(layers, card)
    assert free.bottleneck == "engines"
    assert predict(layers, card, pixels=100_000_000).bottleneck == "host"
    assert predict(layers, load_profile("alveo-u50"), image_bytes=10**9).bottleneck == "pcie"
    assert predict(topology("vgg19"), card).bottleneck == "card memory"
    assert free.watts == pytest.approx(29 + 8e-12 * 3.165e9 * free.images_per_s, rel=0.01)
    assert free.joules == pytest.approx(free.watts / free.images_per_s)
    assert "limited by engines" in str(free)
    with pytest.raises(CardError, match="only moves bytes"):
        predict(layers, load_profile("alveo-u200"))


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
def test_more_clock_never_slows_a_network(name: str) -> None:
    card = load_profile("alveo-u50")
    rates = [
        predict(topology(name), card.with_values(engine__clock=hertz)).images_per_s
        for hertz in (1e8, 2e8, 3e8)
    ]
    assert rates == sorted(rates)
    assert rates[0] < rates[2]
