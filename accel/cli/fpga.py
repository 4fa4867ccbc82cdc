"""`accel fpga`: how fast the simulated cards move bytes, and how well they meet published figures.

One command per question: `dma`, `nic`, `faults`, `calibrate`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from accel.cli.options import Json
from accel.cli.output import out, print_json, table
from accel.errors import CardError, InputError
from accel.fpga.calibrate import (
    LINK_CARDS,
    PARAMETERS,
    compare_nic,
    fit_engines,
    fit_link,
)
from accel.fpga.campaign import Count, strike
from accel.fpga.fault_text import rules_of
from accel.fpga.faults import Fault
from accel.fpga.fit import Calibration
from accel.fpga.hosts import NFP_HOSTS, nfp_on, without_superpages
from accel.fpga.packet import udp_goodput, wire_bytes
from accel.fpga.profile import Profile, load_profile
from accel.fpga.transfer import Direction as Way
from accel.fpga.transfer import (
    Point,
    both_ways,
    bridge_curve,
    hardware_curve,
    read_latency,
    software_curve,
    write_read_latency,
)

DIRECTIONS: dict[str, Way] = {"h2c": "h2c", "c2h": "c2h", "both": "bidir"}
METRICS = ("bandwidth", "latency")

app = typer.Typer(help="Transfers and calibration of the simulated cards.", no_args_is_help=True)
CardName = Annotated[str, typer.Option("--card", help="Card, as in docs/card.md.")]
Bytes = Annotated[int, typer.Option("--bytes", help="Bytes of a transfer.")]
Host = Annotated[str | None, typer.Option(help=f"Host of an nfp6000: {', '.join(NFP_HOSTS)}.")]
Direction = Annotated[str, typer.Option(help="h2c, c2h, or both at once.")]
Metric = Annotated[str, typer.Option(help="bandwidth or latency.")]
Iommu = Annotated[bool, typer.Option("--iommu", help="Behind an IOMMU without superpages.")]
Payload = Annotated[int, typer.Option(help="UDP payload of a packet in bytes, 1 to 8972.")]
Accelerators = Annotated[Path | None, typer.Option(help="CSV of accelerator rows.")]
Dma = Annotated[Path | None, typer.Option("--dma", help="CSV of DMA rows.")]
FaultName = Annotated[
    str | None, typer.Option(help="Faults by name or number, as hang or F12; default: all.")
]
Seeds = Annotated[int, typer.Option(help="Runs of each fault.")]
NicTable = Annotated[Path | None, typer.Option("--nic", help="CSV of rows of a network port.")]
LeaveOut = Annotated[
    bool, typer.Option("--leave-one-out", help="Leave out each DMA row in turn as well.")
]


@app.command()
def dma(
    n_bytes: Bytes,
    card: CardName = "alveo-u200",
    host: Host = None,
    direction: Direction = "h2c",
    metric: Metric = "bandwidth",
    iommu: Iommu = False,
    as_json: Json = False,
) -> None:
    """Rate or latency of one size of transfer; with both ways at once, that of one of them."""
    for option, given, known in (
        ("direction", direction, tuple(DIRECTIONS)),
        ("metric", metric, METRICS),
    ):
        if given not in known:
            raise InputError(f"--{option} {given!r} is not known; expected {', '.join(known)}")
    profile = _on_host(card, host)
    if iommu and "bridge.bandwidth" in profile:
        raise InputError(
            f"card {card!r} has no figures behind an IOMMU: its rows are of the slave bridge; "
            f"leave --iommu out or choose another card"
        )
    profile = without_superpages(profile) if iommu else profile
    found = {
        "card": profile.name,
        "bytes": n_bytes,
        "direction": direction,
        "metric": metric,
        "iommu": iommu,
    }
    if metric == "latency":
        found["latency_us"] = _latency(profile, direction, n_bytes) * 1e6
    else:
        rate = _point(profile, direction, n_bytes).bytes_per_s / 1e9
        found |= {"throughput_GBps": rate}
        if direction == "both":
            found["both_ways_GBps"] = 2 * rate
    _show(found, as_json)


@app.command()
def nic(payload: Payload, card: CardName = "alveo-u280", as_json: Json = False) -> None:
    """Payload rate of UDP packets of one size through a card's network port."""
    profile = load_profile(card)
    if "nic.line_rate" not in profile:
        raise CardError(f"card {card!r} has no network port; choose another card")
    on_wire = wire_bytes(payload)
    rate = udp_goodput(profile, payload)
    found = {
        "card": card,
        "payload_bytes": payload,
        "wire_bytes": on_wire,
        "packets_per_s": rate / payload,
        "throughput_Gbps": rate * 8 / 1e9,
    }
    _show(found, as_json)


@app.command()
def faults(fault: FaultName = None, seeds: Seeds = 20, as_json: Json = False) -> None:
    """Strike a card with every fault, seed after seed; exit code 1 when anything went wrong."""
    if not 1 <= seeds <= 1_000_000:
        raise InputError(f"--seeds is {seeds}; expected 1 to 1,000,000")
    kinds = [rule.kind for rule in rules_of(fault)] if fault else list(Fault)
    counts = [strike(kind, range(seeds)) for kind in kinds]
    if as_json:
        print_json([_count_dict(count) for count in counts])
    else:
        out().print(_count_table(counts))
    if not all(count.clean for count in counts):
        raise typer.Exit(1)


@app.command()
def calibrate(
    accelerators: Accelerators = None,
    dma_table: Dma = None,
    nic_table: NicTable = None,
    leave_out: LeaveOut = False,
    as_json: Json = False,
) -> None:
    """Refit the fitted numbers from tables of published rows.

    Accelerator rows are also fitted with each row left out in turn.
    """
    if accelerators is None and dma_table is None and nic_table is None:
        raise InputError("nothing to fit to; give --accelerators, --dma or --nic with a file")
    fits: list[Calibration] = []
    if accelerators is not None:
        fits += [fit_engines(accelerators, family) for family in PARAMETERS]
    if dma_table is not None:
        fits += [fit_link(dma_table, card, leave_out) for card in LINK_CARDS]
    if nic_table is not None:
        fits.append(compare_nic(nic_table))
    if as_json:
        print_json([_fit_dict(fit) for fit in fits])
        return
    for fit in fits:
        out().print(str(fit), markup=False, soft_wrap=True)


def _count_dict(count: Count) -> dict[str, Any]:
    outcomes = {name: count.outcomes[name] for name in ("card", "cpu", "error")}
    row = {"fault": count.kind.name.lower(), "name": count.kind.value, "seeds": count.seeds}
    row |= {"struck": count.struck} | outcomes
    row |= {name: getattr(count, name) for name in ("lost", "duplicated", "wrong", "stolen")}
    return row | {"slow": count.slow, "slowest_ms": count.slowest_s * 1e3}


def _count_table(counts: list[Count]) -> Table:
    columns = ["fault", "struck", "card", "cpu", "error", "amiss", "slowest ms"]
    shown = table(columns, right=columns[1:])
    for row in map(_count_dict, counts):
        amiss = sum(row[name] for name in ("lost", "duplicated", "wrong", "stolen", "slow"))
        cells = [row["fault"], *(row[name] for name in columns[1:5]), amiss]
        shown.add_row(*map(str, cells), f"{row['slowest_ms']:.2f}")
    return shown


def _on_host(card: str, host: str | None) -> Profile:
    if host is None:
        return load_profile(card)
    if not card.startswith("nfp6000"):
        raise InputError(
            f"--host {host!r} goes with card 'nfp6000', not with {card!r}; give no --host with "
            f"other cards"
        )
    return nfp_on(host)


def _by_software(profile: Profile) -> bool:
    """Whether published rows are of requests by a driver, not of commands on the card."""
    return profile.value("driver.submit") > 0


def _point(profile: Profile, direction: str, n_bytes: int) -> Point:
    if "bridge.bandwidth" in profile:
        return bridge_curve(profile, DIRECTIONS[direction], [n_bytes])[0]
    if not _by_software(profile):
        return hardware_curve(profile, DIRECTIONS[direction], [n_bytes])[0]
    if direction == "both":
        return both_ways(profile, n_bytes)
    return software_curve(profile, direction, [n_bytes])[0]  # type: ignore[arg-type]


def _latency(profile: Profile, direction: str, n_bytes: int) -> float:
    if "bridge.bandwidth" in profile or _by_software(profile):
        return _point(profile, direction, n_bytes).seconds
    if direction == "h2c":
        return read_latency(profile, n_bytes)
    if direction == "both":
        return write_read_latency(profile, n_bytes)
    raise InputError(
        "a posted write has no latency that the card could see; use --direction both, a write "
        "and the read behind it"
    )


def _fit_dict(fit: Calibration) -> dict[str, Any]:
    rows = [
        {
            "name": r.name,
            "measured": r.measured,
            "fitted": r.fitted,
            "left_out": _finite(r.left_out),
        }
        for r in fit.rows
    ]
    left_out = [abs(row.left_out_error) for row in fit.left_out]
    return {
        "family": fit.family,
        "values": fit.values,
        "rows": rows,
        "mean_error": fit.mean_error,
        "worst_error": fit.worst.error,
        "worst_row": fit.worst.name,
        "left_out_mean_error": sum(left_out) / len(left_out) if left_out else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        out().print(f"{name:16} {shown}", markup=False)
