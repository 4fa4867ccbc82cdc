"""A draft of a plan: the steps of a schedule and the forms that they touch, without memory."""

from __future__ import annotations

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


class Draft:
    """The steps of the first calls of a schedule, in order.

    Parameters
    ----------
    packed : gives the packed weights of each product.
    gemm : address of MKL's ``cblas_gemm_s8u8s32``, or None for our own dot kernels.
    calls : how many of the schedule; None: all.

    Attributes
    ----------
    arena : where the steps' values will lie; not placed yet.
    pairs : two calls each that are one step.
    ends : the number of steps up to each call: [i] are those before call i.
    loose : values of unknown shape, made anew by each run.
    weight_bytes : of each node, once its step is bound.
    """

    def __init__(
        self,
        schedule: Schedule,
        packed: PackedFor,
        name: str,
        threads: int,
        gemm: int | None = None,
        calls: int | None = None,
    ) -> None:
        self.schedule = schedule
        self.arena = Arena()
        self.pairs: list[tuple[ProductCall, ProductCall | PoolCall]] = []
        self.steps: list[Step] = []
        self.loose: dict[str, Array] = {}
        self.weight_bytes: dict[str, int] = {}
        self.pool = kernels.Pool(threads)
        self._packed = packed
        self._name = name
        self._threads = threads
        self._gemm = gemm
        self._values = Values(schedule, self.arena, self.pool, self.steps)
        self.plain = self._values.plain
        place_joins(schedule, self._values, self.arena)
        for value in schedule.inputs:
            self._values.node = value
            self._values.add_input(value)
        self.ends = [len(self.steps)]
        for call in schedule.calls[:calls]:
            self._values.node = call.name
            self._add(call)
            self.ends.append(len(self.steps))

    def _add(self, call: Call) -> None:
        readers = self._values.readers
        if isinstance(call, ProductCall):
            if call.y not in {*readers.pairs, *readers.shortcuts, *readers.pooled}:
                self._add_product(call, readers.pairs.get(call.x))
        elif isinstance(call, MatMulCall):
            self._add_matmul(call)
        elif isinstance(call, PoolCall):
            if call.x in readers.pooled:
                self._add_pooled(readers.pooled[call.x], call)
            else:
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
        values, shortcuts = self._values, self._values.readers.shortcuts
        source, target = values.windows(dense or call), values.target(call.y, call.rows)
        residual, added = values.residual(call), shortcuts.get(call.epilogue.residual or "")
        inner = None if added is None else values.windows(added)
        self.pairs += [(first, call) for first in (dense, added) if first is not None]

        def held() -> Any:
            if added is not None and inner is not None:
                return self._dense(added, inner)
            return None if residual is None else residual.held

        def bind() -> Run:
            return kernels.Conv(
                source.tensor if dense is None else self._dense(dense, source),
                self._weights(call),
                **_layer(call),
                residual=held(),
                dst=None if target.floats is None else target.floats.array,
                dst_q=None if target.windows is None else target.windows.tensor,
                pool=self.pool,
                gemm=self._gemm,
            )

        _let_share(residual, source, target.forms)
        reads = [form for form in (source, residual, inner) if form is not None]
        values.add((*reads, *target.forms), bind)
        values.convert(call.y, call.rows)

    def _add_pooled(self, call: ProductCall, pool: PoolCall) -> None:
        """A convolution of which only the maxima are stored."""
        source, target = self._values.windows(call), self._values.target(pool.y, rows=False)
        self.pairs.append((call, pool))

        def bind() -> Run:
            return kernels.Conv(
                source.tensor,
                self._weights(call),
                **_layer(call),
                max_pool=kernels.MaxPool(
                    pool.kernel, target.shape[1:3], strides=pool.strides, pads=pool.pads
                ),
                dst=None if target.floats is None else target.floats.array,
                dst_q=None if target.windows is None else target.windows.tensor,
                pool=self.pool,
                gemm=self._gemm,
            )

        self._values.add((source, *target.forms), bind)
        self._values.convert(pool.y, rows=False)

    def _weights(self, call: ProductCall) -> kernels.PackedWeights:
        weights = self._packed(call)
        self.weight_bytes[call.name] = weights.nbytes
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
                pool=self.pool,
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
                pool=self.pool,
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

        self._values.add((source, target), bind, own=False)
        self._values.convert_floats(call.y)

    def _add_nearest(self, call: NearestCall) -> None:
        source, target = self._values.copied(call)

        def bind() -> Run:
            return kernels.Nearest(source.held, target.held, call.rows, call.columns, self.pool)

        self._values.add((source, target), bind)
        if not isinstance(target, Windows):
            self._values.convert_floats(call.y)

    def _add_linear(self, call: LinearCall) -> None:
        source, target = self._values.nhwc(call.x), self._values.make_floats(call.y)

        def bind() -> Run:
            return kernels.Linear(source.array, target.array, call.rows, call.columns, self.pool)

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
                self.pool,
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
            return lambda: call(self.loose)

        self._values.add((*reads.values(), *writes.values()), bind, own=False)
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


def _let_share(residual: Form | None, source: Form, targets: tuple[Form, ...]) -> None:
    """Let a sum be written over what is added to it: its lines are in the nearest caches then."""
    if residual is None or residual.buffer is source.buffer:
        return
    for target in targets:
        if target.buffer is not None and residual.is_like(target):
            target.buffer.over = residual.buffer
