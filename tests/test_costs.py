"""What multiplications cost: counts that can be done by hand."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import accel
from accel.lower import lower
from tests.networks import Net

BENCH = Path(__file__).resolve().parents[1] / "bench"
PIXELS, INSIDE = 5 * 6, 13 * 16  # taps of three inside five and six pixels


@pytest.mark.usefixtures("small_layers_pay")
@pytest.mark.parametrize(
    ("oc", "ic", "k", "attributes", "products", "others"),
    [
        (64, 32, 1, {}, PIXELS * 64 * 32, 4 * PIXELS * 64 * 3),
        (8, 32, 3, {"pads": [1] * 4}, INSIDE * 8 * 32, 4 * 8 * (INSIDE + 2 * PIXELS)),
        (64, 64, 3, {"pads": [1] * 4}, 12 * 16 * 64 * 64, 8 * 64 * (12 * 16 + PIXELS)),
        (64, 64, 3, {"pads": [1] * 4, "group": 64}, 2 * INSIDE * 64 * 2 / 3, 8 * PIXELS * 64),
        (64, 64, 3, {"group": 64, "strides": [2, 2]}, 2 * 4 * 9 * 64, 8 * 4 * 64),
    ],
)
def test_costs_of_a_layer_are_those_of_its_taps_windows_and_outputs(
    oc: int,
    ic: int,
    k: int,
    attributes: dict[str, Any],
    products: float,
    others: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    net = Net()
    first = net.op("Relu", net.conv("image", ic, 4, k=1))
    last = net.conv(net.op("Relu", net.conv(first, oc, ic, k, **attributes)), 1, oc, k=1)
    model = accel.load(net.model({"image": [1, 4, 5, 6]}, {last: [1, 1, "h", "w"]}))
    schedule = lower(model.quantize().with_shapes(1, {}))
    found = list(import_module("costs").costs(schedule))
    assert len(found) == 3
    assert found[1] == pytest.approx((products, others))
