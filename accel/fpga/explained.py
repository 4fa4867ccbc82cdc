"""Which node of a network a card computes, and in what time: the `cpu` explanation, amended."""

from __future__ import annotations

from dataclasses import replace

from accel.explain import Explanation, Row
from accel.fpga.card import Card
from accel.fpga.engine import LayerTime, images_per_second
from accel.fpga.network import Network
from accel.fpga.placement import BESIDE_ARRAY, host_node_s


def explained(base: Explanation, card: Card, network: Network) -> Explanation:
    """Return the explanation of a program on a card with engines.

    `base` is that of the same model on the CPU, under the name of the card's device.
    """
    assert card.scheduler is not None
    spec, loaded = card.scheduler.spec, card.scheduler.describe(network)
    times = {time.name: time for time in loaded.times}
    array = f"int8 {spec.pixels}x{spec.inputs}x{spec.outputs}"
    rows = tuple(_row(row, times.get(row.node), base.device, array) for row in base.rows)
    notes = _notes(card, network, loaded.image_ps, len(times))
    return replace(base, rows=rows, notes=notes)


def _row(row: Row, time: LayerTime | None, device: str, array: str) -> Row:
    if time is not None:
        note = f"{time.cycles} cycles, {time.total_ps / 1e6:.1f} us, {time.bound} bound"
        return replace(row, where=device, kernel=array, note=note)
    if row.op in BESIDE_ARRAY:
        return replace(row, where=device, note="beside the array, value by ONNX Runtime")
    return replace(row, note=f"on the host, {host_node_s(row.macs) * 1e6:.1f} us")


def _notes(card: Card, network: Network, image_ps: int, n_layers: int) -> tuple[str, ...]:
    assert card.scheduler is not None
    spec, name = card.scheduler.spec, card.profile.name
    notes = [
        f"card {name}: {n_layers} layers, {image_ps / 1e9:.3f} ms an image on one engine, "
        f"{spec.count} engines: at most {images_per_second(network.layers, spec):.1f} images/s "
        f"(simulated)"
    ]
    if not n_layers:
        notes = [f"card {name}: its engine runs none of this network's layers"]
    if network.host_seconds:
        notes.append(
            f"the engine lacks some operators: the host adds "
            f"{network.host_seconds * 1e6:.1f} us an image"
        )
    return tuple(notes)
