"""The same card in a less friendly host: profiles changed by what the host adds.

Source: Neugebauer et al., SIGCOMM 2018, sections 6.4 (NUMA) and 6.5 (IOMMU).
"""

from __future__ import annotations

from accel.fpga.profile import Profile

REMOTE_NUMA_S = 1e-7
"""What a read of the other socket's memory takes longer, in seconds."""

WALK_SLOWDOWN = 3.96 / 1.4
"""Random 64-byte reads, GB/s: with the translations cached, and with a page walk for each."""


def remote_numa(profile: Profile) -> Profile:
    """Return the card with its buffers in the memory of the other socket."""
    latency = profile.value("link.read_latency") + REMOTE_NUMA_S
    return profile.with_values(link__read_latency=latency)


def without_superpages(profile: Profile) -> Profile:
    """Return the card behind an IOMMU with 4 KB pages and a window far beyond its cache.

    Page walks are few at a time, so fewer reads make progress at once; their latency alone would
    hide behind the others.
    """
    return profile.with_values(link__read_tags=profile.value("link.read_tags") / WALK_SLOWDOWN)
