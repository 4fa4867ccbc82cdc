"""The first calls of a batch run image by image: the same bits, less memory, the same errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from networks import Net, small_cnn

import accel
from accel import plan
from accel.backends.cpu import PlanProgram
from accel.draft import Draft
from accel.errors import KernelError
from accel.lanes import able_calls
from accel.packed import shared_weights

BATCH = 4


def branches() -> bytes:
    """A concatenation whose parts other layers read too, a residual, a resize, two outputs."""
    net = Net()
    x = net.op("Relu", net.conv("x", 32, 3, pads=[1] * 4))
    a = net.op("Relu", net.conv(x, 32, 32, k=1))
    b = net.op("Relu", net.conv(x, 64, 32, pads=[1] * 4))
    y = net.op("Concat", a, b, axis=1)
    z = net.op("Add", net.conv(y, 32, 96, k=1), x)
    scales = net.constant("scales", np.array([1, 1, 2, 2], np.float32))
    up = net.op("Resize", z, "", scales, mode="nearest", nearest_mode="floor",
                coordinate_transformation_mode="asymmetric")  # fmt: skip
    out = net.conv(up, 5, 32, k=1)
    return net.model({"x": ["N", 3, 9, 14]}, {out: ["N", 5, 18, 28], a: ["N", 32, 9, 14]})


def compiled(data: bytes, batch: int, threads: int) -> PlanProgram:
    model = accel.load(data).quantize()
    program = accel.device("cpu").compile(model, batch, threads)
    assert isinstance(program, PlanProgram)
    return program


def outputs(program: accel.Program, x: Any) -> list[np.ndarray[Any, Any]]:
    y = program.run(x)
    return list(y.values()) if isinstance(y, dict) else [y]


def forced(data: bytes, threads: int, patch: pytest.MonkeyPatch) -> Iterator[PlanProgram]:
    """Programs with every number of calls that can run image by image."""
    program = compiled(data, BATCH, 1)
    packed = shared_weights(program.model.digest)
    able = able_calls(Draft(program.schedule, packed, "net", threads))
    assert able >= 4
    for count in range(able + 1):
        with patch.context() as p:
            p.setattr(plan, "calls_by_image", lambda *_, count=count: count)
            yield compiled(data, BATCH, threads)


@pytest.mark.parametrize("data", [small_cnn(), branches()], ids=["plain", "branches"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_lanes_give_the_bits_of_the_batch_wherever_they_end(
    data: bytes, threads: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = compiled(data, 1, 1)
    x = rng.standard_normal((BATCH, *one.inputs[0].shape[1:])).astype(np.float32)  # type: ignore[arg-type]
    want = outputs(one, x)
    for program in forced(data, threads, monkeypatch):
        for stage in program._plan.stages:
            for buffer in stage.arena.buffers:
                if buffer.memory is not None:
                    buffer.memory[:] = 0xA5
        for got, expected in zip(outputs(program, x), want, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_lanes_take_batches_that_fill_the_threads_and_no_others() -> None:
    taken = {
        (batch, threads): compiled(small_cnn(), batch, threads)._plan.by_image > 0
        for batch, threads in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (8, 2), (8, 3), (9, 2))
    }
    assert {key for key, by_image in taken.items() if by_image} == {
        (2, 1), (2, 2), (8, 2), (8, 3), (9, 2),
    }  # fmt: skip


def test_lanes_end_where_weights_outweigh_the_values_of_an_image() -> None:
    net = Net()
    x = net.op("Relu", net.conv("x", 64, 3, pads=[1] * 4))
    x = net.op("Relu", net.conv(x, 64, 64, pads=[1] * 4))
    x = net.op("Relu", net.conv(x, 512, 64, strides=[8, 8], pads=[1] * 4))
    y = net.op("Relu", net.conv(x, 512, 512, pads=[1] * 4))
    program = compiled(net.model({"x": ["N", 3, 32, 32]}, {y: ["N", 512, 4, 4]}), 2, 2)
    assert program._plan.by_image == 3
    third = program.schedule.calls[2].name
    assert any(third in note and "image" in note for note in program.explain().notes)


def test_lanes_need_memory_for_one_image_each() -> None:
    small, large = (compiled(small_cnn(), batch, 2)._plan.nbytes for batch in (2, 32))
    assert large < 4 * small


def test_lanes_profile_every_node_of_the_batch() -> None:
    program = compiled(small_cnn(), BATCH, 2)
    assert program._plan.by_image
    rows = program.profile(repeats=2).rows
    assert all(row.seconds is not None and row.seconds > 0 for row in rows if row.macs)
    assert {row.bytes for row in rows} == {row.bytes for row in program.explain().rows}


def test_lanes_raise_for_an_image_beyond_float_and_live_on(rng: np.random.Generator) -> None:
    program = compiled(small_cnn(), BATCH, 2)
    x = rng.standard_normal((BATCH, 3, 13, 11)).astype(np.float32)
    want = program.run(x)
    bad = x.copy()
    bad[-1] = 3e38
    with pytest.raises(KernelError, match="NaN or infinity"):
        program.run(bad)
    np.testing.assert_array_equal(program.run(x), want)
