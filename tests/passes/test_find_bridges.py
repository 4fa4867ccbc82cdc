"""Which convolutions no shortcut leads around, and what becomes of them."""

from __future__ import annotations

import onnx_ir as ir
from networks import Net

import accel
from accel.passes.choose_fine import FEW_WEIGHTS, choose_fine
from accel.passes.find_bridges import find_bridges


def blocks(width: int, inner: int = 8) -> tuple[ir.Model, list[str]]:
    """Two residual blocks, one of `inner` channels, one with a convolution as its shortcut;
    between and behind them a convolution of `width` channels each. And what these two make.
    """
    net = Net()
    x = net.op("Relu", "x")
    x = net.op("Add", net.conv(net.op("Relu", net.conv(x, inner, 8)), 8, inner, pads=[2] * 4), x)
    x = between = net.conv(x, width, 8, k=1)
    x = net.op("Add", net.conv(net.conv(x, 8, width, k=1), 8, 8, k=1), net.conv(x, 8, width, k=1))
    y = net.conv(x, width, 8, k=1)
    data = net.model({"x": [1, 8, 6, 6]}, {y: [1, width, 6, 6]})
    return accel.load(data).graph(), [between, y]


def names(nodes: set[ir.Node]) -> list[str]:
    return sorted(node.outputs[0].name or "" for node in nodes)


def test_bridges_are_what_lies_between_blocks() -> None:
    model, expected = blocks(16)
    assert names(find_bridges(model)) == sorted(expected)


def test_network_of_no_shortcuts_has_no_bridges() -> None:
    net = Net()
    y = net.conv(net.op("Relu", net.conv("x", 8, 8, k=1)), 8, 8, k=1)
    model = accel.load(net.model({"x": [1, 8, 6, 6]}, {y: [1, 8, 6, 6]})).graph()
    assert not find_bridges(model)


def test_bridges_of_more_weights_get_fewer_levels_and_heavy_ones_none() -> None:
    for weights, expected in ((1, 16), (4, 4), (20, 2), (21, 1)):
        width = weights * FEW_WEIGHTS // 8
        model, _ = blocks(width, inner=16 * width)
        factors = choose_fine(model)
        assert [factors.get(node, 1) for node in find_bridges(model)] == [expected] * 2
        assert not choose_fine(blocks(width)[0]), "they make more than their share"
