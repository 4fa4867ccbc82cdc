"""A plan: a schedule bound to memory. Shared by the devices that run our kernels."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel import kernels
from accel.arena import Arena
from accel.forms import Floats, Form, Windows
from accel.host import HostCall, open_session
from accel.joins import place_joins
from accel.packed import PackedFor
from accel.schedule import (
    Call,
    ColumnsCall,
    HostGroup,
    JoinCall,
    LinearCall,
    MatMulCall,
    NearestCall,
    PoolCall,
    ProductCall,
    SampleCall,
    Schedule,
)
from accel.steps import Run, Step
from accel.values import Values

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Life:
    """A buffer of a plan: where it lies, and between which steps; -1 is before the first.

    Attributes
    ----------
    node : who writes it first; the name of the input for inputs.
    offset, nbytes : in the arena.
    """

    node: str
    first: int
    last: int
    offset: int
    nbytes: int


class Plan:
    """Steps with their memory. Built once; `run` only executes.

    Parameters
    ----------
    packed : gives the packed weights of each product.
    gemm : address of MKL's ``cblas_gemm_s8u8s32``, or None for our own dot kernels.

    Attributes
    ----------
    arena : the memory of all values.
    pairs : two products each that are one step.
    """

    def __init__(
        self,
        schedule: Schedule,
        packed: PackedFor,
        name: str,
        threads: int,
        gemm: int | None = None,
    ) -> None:
        self.schedule = schedule
        self.arena = Arena()
        self.pairs: list[tuple[ProductCall, ProductCall]] = []
        self._packed = packed
        self._name = name
        self._threads = threads
        self._gemm = gemm
        self._pool = kernels.Pool(threads)
        self._loose: dict[str, Array] = {}  # values of unknown shape, made anew by each run
        self._weight_bytes: dict[str, int] = {}
        self._steps: list[Step] = []
        self._values = Values(schedule, self.arena, self._pool, self._steps)
        place_joins(schedule, self._values, self.arena)
        for value in schedule.inputs:
            self._values.node = value
            self._values.add_input(value)
        for call in schedule.calls:
            self._values.node = call.name
            self._add(call)
        self._place()
        self._runs: list[Run] = [step.bind() for step in self._steps]

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Execute once; returns fresh arrays."""
        self._take(inputs)
        for run in self._runs:
            run()
        found = {}
        for name in self.schedule.outputs:
            held = self._values.plain.get(name)
            found[name] = self._loose[name] if held is None else held.array.copy()
        return found

    def seconds(self, inputs: dict[str, Array], repeats: int) -> dict[str, float]:
        """Median time of every node over `repeats` runs, in s, its conversions included; that of a
        pair shared out by multiplications.
        """
        times = np.empty((repeats, len(self._runs)))
        for row in times:
            self._take(inputs)
            for i, run in enumerate(self._runs):
                start = time.perf_counter()
                run()
                row[i] = time.perf_counter() - start
        found: dict[str, float] = {}
        for step, median in zip(self._steps, np.median(times, axis=0), strict=True):
            found[step.node] = found.get(step.node, 0.0) + float(median)
        for dense, call in self.pairs:
            share = found[call.name] * dense.macs / (dense.macs + call.macs)
            found[dense.name] = share
            found[call.name] -= share
        return found

    def moved(self) -> dict[str, int]:
        """Bytes of the weights and of all forms that each node touches."""
        found = dict(self._weight_bytes)
        for step in self._steps:
            found[step.node] = found.get(step.node, 0) + sum(f.nbytes for f in step.touches)
        return found

    def lives(self) -> tuple[Life, ...]:
        """Every buffer that is used."""
        return tuple(
            Life(self._steps[max(b.first, 0)].node, b.first, b.last, b.offset, b.nbytes)
            for b in self.arena.buffers
            if b.first is not None and self._steps
        )

    def _take(self, inputs: dict[str, Array]) -> None:
        for name, array in inputs.items():
            np.copyto(self._values.plain[name].array, array)
        self._loose.clear()

    def _place(self) -> None:
        """Inputs are there before the first step, outputs until after the last."""
        plain, end = self._values.plain, len(self._steps)
        for name in self.schedule.inputs:
            _use(plain[name], -1)
        for i, step in enumerate(self._steps):
            for form in step.touches:
                _use(form, i)
        for name in self.schedule.outputs:
            if name in plain:
                _use(plain[name], end)
        self.arena.place()

    def _add(self, call: Call) -> None:
        pairs = self._values.readers.pairs
        if isinstance(call, ProductCall):
            if call.y not in pairs:
                self._add_product(call, pairs.get(call.x))
        elif isinstance(call, MatMulCall):
            self._add_matmul(call)
        elif isinstance(call, PoolCall):
            self._add_pool(call)
        elif isinstance(call, SampleCall):
            self._add_sample(call)
        elif isinstance(call, NearestCall):
            self._add_nearest(call)
        elif isinstance(call, LinearCall):
            self._add_linear(call)
        elif isinstance(call, ColumnsCall):
            self._add_columns(call)
        elif isinstance(call, JoinCall):
            self._values.join(call)
        elif isinstance(call, HostGroup):
            self._add_host(call)
        else:
            self._values.view(call)

    def _add_product(self, call: ProductCall, dense: ProductCall | None) -> None:
        """`dense`: what the step makes first, instead of reading it."""
        values = self._values
        source, target = values.windows(dense or call), values.target(call.y, call.rows)
        if dense is not None:
            self.pairs.append((dense, call))
        residual = values.residual(call)

        def bind() -> Run:
            return kernels.Conv(
                source.tensor if dense is None else self._dense(dense, source),
                self._weights(call),
                **_layer(call),
                residual=None if residual is None else residual.held,
                dst=None if target.floats is None else target.floats.array,
                dst_q=None if target.windows is None else target.windows.tensor,
                pool=self._pool,
                gemm=self._gemm,
            )

        reads: tuple[Form, ...] = (source,) if residual is None else (source, residual)
        values.add((*reads, *target.forms), bind)
        values.convert(call.y, call.rows)

    def _weights(self, call: ProductCall) -> kernels.PackedWeights:
        weights = self._packed(call)
        self._weight_bytes[call.name] = weights.nbytes
        return weights

    def _dense(self, call: ProductCall, source: Windows) -> kernels.Dense:
        """What the first of a pair makes for the second."""
        return kernels.Dense(source.tensor, self._weights(call), gemm=self._gemm, **_layer(call))

    def _add_matmul(self, call: MatMulCall) -> None:
        self._values.make_plain(call.y)
        plain = self._values.plain
        a, b, y = plain[call.x], plain[call.other], plain[call.y]
        mask = None if call.mask is None else plain[call.mask]

        def bind() -> Run:
            return kernels.MatMul(
                a.array.transpose(call.x_perm),
                b.array.transpose(call.other_perm),
                y.array.transpose(call.y_perm),
                window=call.window,
                signed=call.signed,
                scale=call.scale,
                softmax=call.softmax,
                mask=None if mask is None else mask.array,
                pool=self._pool,
                gemm=self._gemm,
            )

        self._values.add((a, b, y) if mask is None else (a, b, mask, y), bind)
        self._values.convert(call.y)

    def _add_pool(self, call: PoolCall) -> None:
        source = self._values.pooled(call.x)
        target = self._values.target(call.y, rows=False)

        def bind() -> Run:
            return kernels.Pooling(
                source.held,
                "average" if call.average else "max",
                kernel=call.kernel,
                out_shape=target.shape[1:3],
                strides=call.strides,
                pads=call.pads,
                dilations=call.dilations,
                count_pads=call.count_pads,
                dst=None if target.floats is None else target.floats.array,
                dst_q=None if target.windows is None else target.windows.tensor,
                pool=self._pool,
            )

        self._values.add((source, *target.forms), bind)
        self._values.convert(call.y, rows=False)

    def _add_sample(self, call: SampleCall) -> None:
        source, target = self._values.nhwc(call.x), self._values.make_floats(call.y)

        def bind() -> Run:
            (top, left), (down, right) = call.start, call.strides
            x, y = source.array[:, top::down, left::right], target.array
            end = call.before + x.shape[3]
            middle, ahead, behind = y[..., call.before : end], y[..., : call.before], y[..., end:]
            taken = x[:, : y.shape[1], : y.shape[2]]

            def run() -> None:
                ahead.fill(0.0)
                behind.fill(0.0)
                np.copyto(middle, taken)

            return run

        self._values.add((source, target), bind)
        self._values.convert_floats(call.y)

    def _add_nearest(self, call: NearestCall) -> None:
        source, target = self._values.copied(call)

        def bind() -> Run:
            return kernels.Nearest(source.held, target.held, call.rows, call.columns, self._pool)

        self._values.add((source, target), bind)
        if not isinstance(target, Windows):
            self._values.convert_floats(call.y)

    def _add_linear(self, call: LinearCall) -> None:
        source, target = self._values.nhwc(call.x), self._values.make_floats(call.y)

        def bind() -> Run:
            return kernels.Linear(source.array, target.array, call.rows, call.columns, self._pool)

        self._values.add((source, target), bind)
        self._values.convert_floats(call.y)

    def _add_columns(self, call: ColumnsCall) -> None:
        self._values.make_plain(call.y)
        plain = self._values.plain
        loads, target = [[plain[name] for name in parts] for parts in call.loads], plain[call.y]

        def matrices(form: Floats) -> Array:
            return form.array.reshape(call.matrices, -1, form.shape[-1])

        def bind() -> Run:
            return kernels.Columns(
                [[matrices(part) for part in parts] for parts in loads],
                call.constants,
                call.steps,
                call.result,
                matrices(target),
                self._pool,
            )

        self._values.add((*(part for parts in loads for part in parts), target), bind)
        self._values.convert(call.y)

    def _add_host(self, group: HostGroup) -> None:
        for name in group.writes:
            self._values.make_plain(name)
        plain = self._values.plain
        reads = {n: plain[n] for n in group.reads if n in plain}
        writes = {n: plain[n] for n in group.writes if n in plain}

        def bind() -> Run:
            call = HostCall(
                open_session(group.data, self._threads, self._name),
                {n: form.array for n, form in reads.items()},
                {n: form.array for n, form in writes.items()},
            )
            return lambda: call(self._loose)

        self._values.add((*reads.values(), *writes.values()), bind)
        for name in group.writes:
            self._values.convert(name)


def _layer(call: ProductCall) -> dict[str, Any]:
    """What every convolution is told, whether it runs alone or as the first of a pair."""
    e = call.epilogue
    return {
        "strides": call.strides,
        "pads": call.pads,
        "dilations": call.dilations,
        "bias": call.bias,
        "activation": e.activation,
        "alpha": e.alpha,
        "lo": e.lo,
        "hi": e.hi,
    }


def _use(form: Form, step: int) -> None:
    if form.buffer is not None:
        form.buffer.use(step)
