"""Heads and suppression against plain loops; outputs that no sane network gives."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.detection.boxes import Candidates, overlaps
from accel.detection.nms import suppress
from accel.detection.priors import PriorGrid
from accel.detection.rows import RowsHead
from accel.detection.ssd import SsdHead
from accel.detection.yolo import YoloHead
from accel.errors import ModelError

Array = np.ndarray[Any, Any]
SIZE = (64, 96)
LEAST = 0.3


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("form", ["exp", "square"])
def test_yolo_cells_equal_loops(rng: np.random.Generator, form: Literal["exp", "square"]) -> None:
    anchors = (((10.0, 20.0), (30.0, 15.0)), ((50.0, 40.0),))
    grids = [rng.standard_normal((2, 2 * 8, 4, 6)), rng.standard_normal((2, 8, 2, 3))]
    grids = [grid.astype(np.float32) for grid in grids]
    found = YoloHead(anchors, form).decode(grids, 2, SIZE, LEAST)
    for image in range(2):
        expected = []
        for grid, group in zip(grids, anchors, strict=True):
            height, width = grid.shape[2:]
            for a, row, column in np.ndindex(len(group), height, width):
                t = [float(v) for v in grid[image, 8 * a : 8 * a + 8, row, column]]
                x, y = sigmoid(t[0]), sigmoid(t[1])
                w, h = math.exp(t[2]), math.exp(t[3])
                if form == "square":
                    x, y = 2 * x - 0.5, 2 * y - 0.5
                    w, h = (2 * sigmoid(t[2])) ** 2, (2 * sigmoid(t[3])) ** 2
                x, y = (x + column) / width, (y + row) / height
                w, h = w * group[a][0] / SIZE[1], h * group[a][1] / SIZE[0]
                for label in range(3):
                    score = sigmoid(t[4]) * sigmoid(t[5 + label])
                    if score > LEAST:
                        expected.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2, score, label])
        got = found[image]
        rows = np.column_stack([got.boxes, got.scores, got.classes])
        assert len(expected) > 3
        np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)


def test_ssd_codings_equal_loops(rng: np.random.Generator) -> None:
    grid = PriorGrid((32, 64), (((20.0, 10.0), (30.0, 30.0)), ((90.0, 60.0),)))
    priors = []
    for stride, sizes in zip(grid.strides, grid.sizes, strict=True):
        for row in range(math.ceil(SIZE[0] / stride)):
            for column in range(math.ceil(SIZE[1] / stride)):
                priors += [[(column + 0.5) * stride / SIZE[1], (row + 0.5) * stride / SIZE[0],
                            w / SIZE[1], h / SIZE[0]] for w, h in sizes]  # fmt: skip
    prior = np.clip(np.array(priors), 0, 1)
    n = len(prior)
    scores = rng.random((1, n, 3), np.float32)
    offsets = rng.standard_normal((1, n, 4)).astype(np.float32)
    corners = np.column_stack([prior[:, :2] - prior[:, 2:] / 2, prior[:, :2] + prior[:, 2:] / 2])
    moved: dict[str, Array] = {
        "corners": offsets[0],
        "corner_offsets": corners + offsets[0] * np.tile(prior[:, 2:], 2),
    }
    centre = prior[:, :2] + 0.1 * offsets[0, :, :2] * prior[:, 2:]
    size = np.exp(0.2 * offsets[0, :, 2:]) * prior[:, 2:]
    moved["centre_size"] = np.column_stack([centre - size / 2, centre + size / 2])
    as_output = corners[None].astype(np.float32)
    codings: tuple[Literal["corners", "corner_offsets", "centre_size"], ...] = (
        "corners", "corner_offsets", "centre_size",
    )  # fmt: skip
    for coding in codings:
        for source in (grid, 2):
            head = SsdHead(0, 1, coding, source)
            (got,) = head.decode([scores, offsets, as_output], 1, SIZE, LEAST)
            where = [(i, c) for i in range(n) for c in (1, 2) if scores[0, i, c] > LEAST]
            assert got.classes.tolist() == [c - 1 for _, c in where]
            np.testing.assert_allclose(got.boxes, [moved[coding][i] for i, _ in where],
                                       rtol=1e-4, atol=1e-5)  # fmt: skip


def test_rows_go_to_their_images() -> None:
    rows = np.array(
        [
            [1, 2, 0.9, 0, 0, 1, 1],
            [0, 1, 0.8, 0.1, 0.1, 0.5, 0.5],
            [0, 0, 0.9, 0, 0, 1, 1],
            [5, 1, 0.9, 0, 0, 1, 1],
            [0, 3, 0.1, 0, 0, 1, 1],
        ]
    )
    first, second = RowsHead().decode([rows.astype(np.float32)[None, None]], 2, SIZE, LEAST)
    assert first.classes.tolist() == [0] and second.classes.tolist() == [1]
    np.testing.assert_allclose(first.boxes, [[0.1, 0.1, 0.5, 0.5]])


boxes = st.lists(
    st.tuples(*[st.integers(0, 9)] * 4, st.integers(1, 20), st.integers(0, 2)), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(boxes, st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.integers(1, 10))
def test_suppression_equals_loops(rows: list[Any], overlap: float, limit: int) -> None:
    data = np.array(rows, np.float32).reshape(-1, 6)
    corners = np.column_stack([data[:, :2], data[:, :2] + data[:, 2:4] + 1]) / 20
    found = Candidates(corners, data[:, 4], data[:, 5].astype(np.int64))
    kept: list[int] = []
    for i in sorted(range(len(data)), key=lambda i: -data[i, 4]):
        rivals = [j for j in kept if found.classes[j] == found.classes[i]]
        if all(overlaps(corners[[i]], corners[[j]])[0, 0] <= overlap for j in rivals):
            kept.append(i)
    got = suppress(found, overlap, limit)
    assert got.scores.tolist() == data[kept[:limit], 4].tolist()
    np.testing.assert_array_equal(got.boxes, corners[kept[:limit]])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_odd_outputs_give_bounded_boxes(value: float) -> None:
    heads = [
        (YoloHead((((9.0, 9.0),),)), [np.full((1, 7, 4, 4), value, np.float32)]),
        (SsdHead(coding="centre_size", priors=2), [np.full((1, 9, 3), value, np.float32),
         np.full((1, 9, 4), value, np.float32), np.full((1, 9, 4), value, np.float32)]),
        (RowsHead(), [np.full((1, 1, 5, 7), value, np.float32)]),
    ]  # fmt: skip
    with np.errstate(all="ignore"):
        for head, outputs in heads:
            (found,) = head.decode(outputs, 1, SIZE, LEAST)
            clipped = found.clipped()
            assert np.isfinite(clipped.boxes).all() and np.isfinite(clipped.scores).all()
            assert len(suppress(clipped, 0.5, 3).scores) <= 3


@pytest.mark.parametrize(
    ("head", "shapes"),
    [
        (YoloHead((((9.0, 9.0),),)), [(1, 7, 4)]),
        (YoloHead((((9.0, 9.0),),)), [(1, 5, 4, 4)]),
        (YoloHead((((9.0, 9.0),) * 2,)), [(1, 13, 4, 4)]),
        (YoloHead((((9.0, 9.0),),)), [(1, 7, 4, 4), (1, 7, 2, 2)]),
        (SsdHead(), [(1, 9, 3)]),
        (SsdHead(), [(1, 9, 3), (1, 8, 4)]),
        (SsdHead(coding="centre_size"), [(1, 9, 3), (1, 9, 4)]),
        (SsdHead(coding="centre_size", priors=PriorGrid((8,), (((4.0, 4.0),),))),
         [(1, 9, 3), (1, 9, 4)]),
        (SsdHead(coding="centre_size", priors=2), [(1, 9, 3), (1, 9, 4), (1, 9, 3)]),
        (SsdHead(background=3), [(1, 9, 3), (1, 9, 4)]),
        (RowsHead(), [(1, 1, 5, 6)]),
        (RowsHead(), []),
    ],
)  # fmt: skip
def test_outputs_that_do_not_fit_the_head_raise(head: Any, shapes: list[Any]) -> None:
    with pytest.raises(ModelError, match=r"output|head|priors|grid"):
        head.decode([np.ones(shape, np.float32) for shape in shapes], 1, SIZE, LEAST)
