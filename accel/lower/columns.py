"""Lower what detectors do with boxes and scores: concatenations, softmax and arithmetic of narrow
matrices, each as one program over their columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from accel import graph as g
from accel.schedule import ColumnsCall

Array = np.ndarray[Any, Any]
Column = tuple[str, int]  # of which kind, and its number among those

MAX_WIDTH = 32  # columns of a matrix
MAX_STEPS = 256
MAX_NODES = 64
_ARITHMETIC = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")


class _Unfit(Exception):
    """A value that is no matrix of columns."""


def columns_calls(
    graph: ir.Graph, images: set[str], claimed: set[ir.Node]
) -> Iterator[ColumnsCall]:
    """Calls for values that come from what our kernels made through such operators alone."""
    for node in reversed(list(graph)):
        if node in claimed or len(node.outputs) != 1:
            continue
        try:
            program = _Program(node.outputs[0], images)
        except _Unfit:
            continue
        if program.does_something:
            claimed.update(program.own_nodes())
            yield program.call()


class _Program:
    """Collects loads, constants and steps from a result back to what is there."""

    def __init__(self, result: ir.Value, images: set[str]) -> None:
        self._images, self._result, self._shape = images, result, _shape(result)
        self._loads: list[tuple[tuple[str, ...], int]] = []
        self._constants: list[Array] = []
        self._steps: list[tuple[str, Column, Column]] = []
        self._nodes: list[ir.Node] = []
        self._visits = 0
        self._known: dict[ir.Value, list[Column]] = {}
        self._rows = prod(self._shape[:-1])
        self._matrices = self._shape[0] if len(self._shape) > 2 else 1
        self._columns = self._of(result)

    @property
    def does_something(self) -> bool:
        """Whether it computes, or brings several matrices together."""
        return bool(self._loads) and (
            bool(self._steps) or any(len(parts) > 1 for parts, _ in self._loads)
        )

    def own_nodes(self) -> set[ir.Node]:
        """The nodes whose results nothing else reads."""
        own: set[ir.Node] = set()
        for node in reversed(self._nodes):  # readers come first
            value = node.outputs[0]
            alone = not value.is_graph_output() and all(use.node in own for use in value.uses())
            if value is self._result or alone:
                own.add(node)
        return own

    def call(self) -> ColumnsCall:
        """What the schedule holds: columns by number."""
        loaded = sum(width for _, width in self._loads)
        first = {"load": 0, "constant": loaded, "step": loaded + len(self._constants)}
        rows = self._rows // self._matrices
        constants = np.array(self._constants, np.float32).reshape(-1, rows)
        out = self._result.name or ""

        def number(column: Column) -> int:
            return first[column[0]] + column[1]

        return ColumnsCall(
            name=self._nodes[0].name or out,
            op="+".join(dict.fromkeys(node.op_type for node in self._nodes)),
            loads=tuple(parts for parts, _ in self._loads),
            constants=constants,
            steps=tuple((op, number(a), number(b)) for op, a, b in self._steps),
            result=tuple(number(c) for c in self._columns),
            matrices=self._matrices,
            y=out,
        )

    def _of(self, value: ir.Value) -> list[Column]:
        """The columns of a value."""
        if value not in self._known:
            shape = _shape(value)
            if prod(shape[:-1]) != self._rows:
                raise _Unfit
            if value.name in self._images:
                self._known[value] = self._load((value.name or "",), shape[-1])
            else:
                self._known[value] = self._computed(value.producer(), shape)
        return self._known[value]

    def _computed(self, node: ir.Node | None, shape: tuple[int, ...]) -> list[Column]:
        self._visits += 1
        if node is None or node.domain or any(v is None for v in node.inputs):
            raise _Unfit
        if self._visits > MAX_NODES:
            raise _Unfit
        how: dict[str, Callable[[ir.Node, tuple[int, ...]], list[Column]]] = {
            "Concat": self._concat,
            "Exp": lambda n, s: [self._step("exp", c, c) for c in self._of(_input(n, 0))],
            "Slice": self._slice,
            "Softmax": self._softmax,
            **dict.fromkeys(_ARITHMETIC, self._arithmetic),
            **dict.fromkeys(_VIEWS, self._view),
        }
        if node.op_type not in how:
            raise _Unfit
        columns = how[node.op_type](node, shape)
        self._nodes.append(node)
        return columns

    def _load(self, parts: tuple[str, ...], width: int) -> list[Column]:
        if self._rows % self._matrices:
            raise _Unfit
        start = sum(w for _, w in self._loads)
        self._loads.append((parts, width))
        return [("load", start + i) for i in range(width)]

    def _constant(self, value: Array, shape: tuple[int, ...]) -> list[Column]:
        """Columns of a constant, the same for every matrix."""
        try:
            whole = np.broadcast_to(value, shape).reshape(self._matrices, -1, shape[-1])
        except ValueError:
            raise _Unfit from None
        if value.dtype != np.float32 or (whole != whole[:1]).any():
            raise _Unfit
        return [self._constant_column(column) for column in whole[0].T]

    def _constant_column(self, column: Array) -> Column:
        for i, held in enumerate(self._constants):
            if np.array_equal(held, column):
                return ("constant", i)
        self._constants.append(np.ascontiguousarray(column))
        return ("constant", len(self._constants) - 1)

    def _step(self, op: str, a: Column, b: Column) -> Column:
        if len(self._steps) == MAX_STEPS:
            raise _Unfit
        self._steps.append((op, a, b))
        return ("step", len(self._steps) - 1)

    def _arithmetic(self, node: ir.Node, shape: tuple[int, ...]) -> list[Column]:
        sides = []
        for i in (0, 1):
            value = _input(node, i)
            held = g.constant(value)
            columns = self._of(value) if held is None else self._constant(held, shape)
            if len(columns) not in (1, shape[-1]):
                raise _Unfit
            sides.append(columns * (shape[-1] // len(columns)))
        op = _ARITHMETIC[node.op_type]
        return [self._step(op, a, b) for a, b in zip(*sides, strict=True)]

    def _softmax(self, node: ir.Node, shape: tuple[int, ...]) -> list[Column]:
        if g.attribute(node, "axis", -1) not in (-1, len(shape) - 1):
            raise _Unfit
        columns = self._of(_input(node, 0))
        top = columns[0]
        for column in columns[1:]:
            top = self._step("max", column, top)
        below = [self._step("sub", column, top) for column in columns]
        shares = [self._step("exp", column, column) for column in below]
        total = shares[0]
        for share in shares[1:]:
            total = self._step("add", total, share)
        return [self._step("div", share, total) for share in shares]

    def _concat(self, node: ir.Node, shape: tuple[int, ...]) -> list[Column]:
        """Of columns; or of rows of what is there."""
        axis = g.attribute(node, "axis", 0) % len(shape)
        values = [_input(node, i) for i in range(len(node.inputs))]
        if axis == len(shape) - 1:
            return [column for value in values for column in self._of(value)]
        whole = prod(shape[:axis]) == self._matrices and axis == len(shape) - 2
        if not whole or any(v.name not in self._images for v in values):
            raise _Unfit
        for value in values:
            _shape(value)
        return self._load(tuple(v.name or "" for v in values), shape[-1])

    def _slice(self, node: ir.Node, shape: tuple[int, ...]) -> list[Column]:
        columns, given = self._of(_input(node, 0)), [g.constant(v) for v in node.inputs[1:]]
        if len(given) < 3 or any(v is None or v.size != 1 for v in given):
            raise _Unfit
        start, end, axis, step = (int(v.item()) for v in (*given, np.array(1))[:4] if v is not None)
        if axis % len(shape) != len(shape) - 1:
            raise _Unfit
        return columns[start:end:step]

    def _view(self, node: ir.Node, shape: tuple[int, ...]) -> list[Column]:
        columns = self._of(_input(node, 0))
        if len(columns) != shape[-1]:
            raise _Unfit
        return columns


def _input(node: ir.Node, i: int) -> ir.Value:
    value = node.inputs[i]
    assert value is not None  # _computed has looked
    return value


def _shape(value: ir.Value) -> tuple[int, ...]:
    """Of float matrices of few columns."""
    shape = g.known_shape(value)
    fits = shape is not None and len(shape) in (2, 3) and 0 not in shape
    if shape is None or not fits or shape[-1] > MAX_WIDTH or value.dtype != ir.DataType.FLOAT:
        raise _Unfit
    return shape
