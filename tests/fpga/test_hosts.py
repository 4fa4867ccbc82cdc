"""Less friendly hosts slow small reads as published, and large ones little."""

from __future__ import annotations

import pytest

from accel.fpga import load_profile
from accel.fpga.hosts import remote_numa, without_superpages
from accel.fpga.profile import Profile
from accel.fpga.transfer import hardware_curve, read_latency


def rate(profile: Profile, n_bytes: int) -> float:
    return hardware_curve(profile, "h2c", [n_bytes])[0].bytes_per_s / 1e9


def test_remote_socket_adds_a_tenth_of_a_microsecond() -> None:
    near = load_profile("nfp6000-snb")
    far = remote_numa(near)
    assert read_latency(far, 64) - read_latency(near, 64) == pytest.approx(1e-7, rel=0.05)
    assert far["link.read_latency"].status == "assumed"
    assert near["link.read_latency"].status == "fitted"


def test_page_walks_cut_random_small_reads_to_a_third() -> None:
    card = load_profile("nfp6000-snb")
    assert rate(card, 64) == pytest.approx(3.96, rel=0.06)
    assert rate(without_superpages(card), 64) == pytest.approx(1.4, rel=0.08)
    assert rate(without_superpages(card), 2048) > 0.95 * rate(card, 2048)
