"""The same card in another host: profiles changed by what the host adds.

Source: Neugebauer et al., SIGCOMM 2018, sections 6.2 (hosts), 6.4 (NUMA) and 6.5 (IOMMU).
"""

from __future__ import annotations

import re

from accel.errors import InputError
from accel.fpga.profile import Profile, load_profile

REMOTE_NUMA_S = 1e-7
"""What a read of the other socket's memory takes longer, in seconds."""

WALK_S = 64 / 1.4e9
"""What the page walker spends on a page: random reads of 64 bytes, a walk for each, at 1.4 GB/s."""

MISS_S = 3.3e-7
"""What a read that waits for a page walk takes longer, in seconds."""

E3_LATENCY_S = 1.21e-6
"""Median latency of a 64-byte read on the Xeon E3, more than twice that of the E5s."""

E3_READ_RATE = 4.8e9
"""Bytes a second that reads on the Xeon E3 stay below: 40 Gb/s Ethernet at no size."""

NFP_HOSTS = ("snb", "ib", "hsw", "hsw-e3", "bdw")
"""Hosts of the NFP6000: Xeon E5 of Sandy Bridge to Broadwell, and a Haswell Xeon E3."""


def nfp_on(host: str) -> Profile:
    """Return the NFP6000 in a named host: "snb", or a name with it, as "snb-Xeon-E5-2630".

    "snb" and "hsw" are fitted to their rows; the other E5s are taken to lie between the two.
    Raises InputError for an unknown host.
    """
    words = re.split(r"[-_ ]", host.lower())
    family = next((name for name in NFP_HOSTS if name in words), None)
    if family is None:
        raise InputError(f"host {host!r} is not known; expected {', '.join(NFP_HOSTS)}")
    snb, hsw = load_profile("nfp6000-snb"), load_profile("nfp6000")
    if family == "hsw" and "e3" in words:
        window = E3_READ_RATE * E3_LATENCY_S
        return hsw.with_values(link__read_latency=E3_LATENCY_S, link__read_window=window)
    if family in ("snb", "hsw"):
        return snb if family == "snb" else hsw
    fitted = [key for key in hsw if hsw[key].status == "fitted"]
    between = {k.replace(".", "__"): (snb.value(k) + hsw.value(k)) / 2 for k in fitted}
    return hsw.with_values(**between)


def remote_numa(profile: Profile) -> Profile:
    """Return the card with its buffers in the memory of the other socket."""
    latency = profile.value("link.read_latency") + REMOTE_NUMA_S
    return profile.with_values(link__read_latency=latency)


def without_superpages(profile: Profile) -> Profile:
    """Return the card behind an IOMMU with 4 KB pages and a window far beyond its cache.

    Each page costs a walk, in time and in the walker's throughput.
    """
    latency = profile.value("link.read_latency") + MISS_S
    return profile.with_values(link__read_latency=latency, link__page_walk=WALK_S)
