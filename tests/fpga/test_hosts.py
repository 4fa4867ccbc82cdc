"""Less friendly hosts slow small reads as published, and large ones little."""

from __future__ import annotations

import pytest

from accel.errors import InputError
from accel.fpga import load_profile
from accel.fpga.hosts import nfp_on, remote_numa, without_superpages
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
    miss = read_latency(without_superpages(card), 64) - read_latency(card, 64)
    assert miss == pytest.approx(3.3e-7 + 4.6e-8, rel=0.2)


def test_hosts_between_the_fitted_ones_lie_between_them() -> None:
    for host in ("ib", "bdw-Xeon-E5-2630v4"):
        latencies = [nfp_on(name).value("link.read_latency") for name in ("snb", host, "hsw")]
        assert latencies == sorted(set(latencies))
    assert nfp_on("bdw")["link.read_latency"].status == "assumed"
    assert nfp_on("hsw-Xeon-E5-2637v3_supermicro") is load_profile("nfp6000")
    assert read_latency(nfp_on("hsw-Xeon-E3-1226v3"), 64) > 2 * read_latency(nfp_on("hsw"), 64)
    with pytest.raises(InputError, match="host 'vax' is not known; expected snb, ib"):
        nfp_on("vax")
