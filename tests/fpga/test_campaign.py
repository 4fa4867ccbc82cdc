"""Every fault, twenty seeds each: nothing lost, doubled, wrong or late."""

from __future__ import annotations

import pytest

from accel.fpga import Fault
from accel.fpga.campaign import REQUESTS, Count, strike

SEEDS = range(20)
SILENT = {Fault.ECC_CORRECTED, Fault.THROTTLE, Fault.SLOW_HOST}  # nothing to recover from


@pytest.mark.parametrize("kind", list(Fault), ids=lambda kind: kind.name.lower())
def test_twenty_seeds_lose_nothing(kind: Fault) -> None:
    count = strike(kind, SEEDS)
    assert count.clean, count
    assert count.seeds == 20
    assert sum(count.outcomes.values()) == 20 * REQUESTS
    assert count.struck >= 1
    if kind in SILENT:
        assert count.outcomes == {"card": 20 * REQUESTS}


def test_same_seeds_give_the_same_campaign() -> None:
    assert strike(Fault.HANG, range(3)) == strike(Fault.HANG, range(3))


def test_count_is_not_clean_when_anything_is_amiss() -> None:
    for name in ("lost", "duplicated", "wrong", "stolen", "slow"):
        assert not Count(Fault.HANG, **{name: 1}).clean
