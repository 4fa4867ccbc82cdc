"""Lower the shortcut that some residual networks take past a stride: every second pixel, and zeros
for the channels that are new."""

from __future__ import annotations

import onnx_ir as ir

from accel import graph as g
from accel.schedule import SampleCall


def sample_call(node: ir.Node, images: set[str], claimed: set[ir.Node]) -> SampleCall | None:
    """The call for a Slice of pixels, with the Pad of channels behind it, or for such a Pad."""
    x = node.inputs[0] if node.inputs else None
    if x is None or x.name not in images or g.known_shape(node.outputs[0]) is None:
        return None
    start, strides = (0, 0), (1, 1)
    padding: ir.Node | None = node
    if g.is_op(node, "Slice"):
        taken = _pixels(node)
        if taken is None:
            return None
        start, strides = taken
        padding = g.only_consumer(node.outputs[0])
    before = _zero_channels(padding) if padding is not None and padding not in claimed else None
    if before is None and padding is node:
        return None
    last = node if before is None or padding is None else padding
    claimed.update((node, last))
    return SampleCall(
        name=node.name or last.outputs[0].name or "",
        op="+".join(n.op_type for n in dict.fromkeys((node, last))),
        x=x.name or "",
        y=last.outputs[0].name or "",
        start=start,
        strides=strides,
        before=before or 0,
    )


def _pixels(node: ir.Node) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """First row and column, and their strides, of a Slice that keeps all images and channels."""
    x = g.known_shape(node.inputs[0]) if node.inputs[0] is not None else None
    given = [g.constant(v) for v in node.inputs[1:]]
    if x is None or len(x) != 4 or len(given) < 3 or any(v is None for v in given):
        return None
    starts, ends, axes, *more = ([int(i) for i in v.reshape(-1)] for v in given if v is not None)
    steps = more[0] if more else [1] * len(axes)
    found = {}
    for first, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % 4 < 2 or step < 1:
            return None
        found[axis % 4] = (slice(first, end, step).indices(x[axis % 4])[0], step)
    rows, columns = (found.get(axis, (0, 1)) for axis in (2, 3))
    return (rows[0], columns[0]), (rows[1], columns[1])


def _zero_channels(node: ir.Node) -> int | None:
    """Channels of zeros that a Pad puts first; None where it does anything else."""
    if not g.is_op(node, "Pad") or g.attribute(node, "mode", "constant") != "constant":
        return None
    x, y = g.known_shape(node.inputs[0]) if node.inputs[0] is not None else None, node.outputs[0]
    pads, *more = [None if v is None else g.constant(v) for v in node.inputs[1:]] or [None]
    named = [v is not None for v in node.inputs[2:]]
    if x is None or len(x) != 4 or pads is None or pads.size != 8 or g.known_shape(y) is None:
        return None
    if named[:1] == [True] and (more[0] is None or more[0].any()):  # the value that is put in
        return None
    if named[1:2] == [True]:  # some axes only
        return None
    ahead, behind = pads[:4].tolist(), pads[4:].tolist()
    outside = [*ahead[:1], *ahead[2:], *behind[:1], *behind[2:]]
    return int(ahead[1]) if not any(outside) and min(ahead[1], behind[1]) >= 0 else None
