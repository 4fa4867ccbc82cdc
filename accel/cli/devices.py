"""`accel devices`: what can run a model here, and what to install for the rest."""

from __future__ import annotations

from dataclasses import asdict

import accel
from accel.cli.options import Json
from accel.cli.output import out, print_json, table


def devices(as_json: Json = False) -> None:
    """List the devices and whether they can be used here."""
    found = accel.devices()
    if as_json:
        print_json([asdict(info) for info in found])
        return
    rows = table(["device", "usable", "detail"])
    for info in found:
        usable = "[green]yes[/]" if info.available else "[yellow]no[/]"
        rows.add_row(info.name, usable, info.detail.replace("[", r"\["))
    out().print(rows)
