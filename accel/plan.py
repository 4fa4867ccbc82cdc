"""A plan: a schedule bound to memory. Shared by the devices that run our kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel import kernels
from accel.host import HostCall, open_session
from accel.schedule import Call, HostGroup, JoinCall, PoolCall, ProductCall, Schedule
from accel.values import Values

Array = np.ndarray[Any, Any]


class Plan:
    """Steps with their buffers. Built once; `run` only executes.

    Parameters
    ----------
    gemm : address of MKL's ``cblas_gemm_s8u8s32``, or None for our own dot kernels.
    """

    def __init__(
        self, schedule: Schedule, name: str, threads: int, gemm: int | None = None
    ) -> None:
        self.schedule = schedule
        self._name = name
        self._threads = threads
        self._gemm = gemm
        self._pool = kernels.Pool(threads)
        self._loose: dict[str, Array] = {}  # values of unknown shape, made anew by each run
        self._steps: list[Callable[[], None]] = []
        self._values = Values(schedule, self._pool, self._steps)
        for value in schedule.inputs:
            self._values.add_input(value)
        for call in schedule.calls:
            self._add(call)

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Execute once; returns fresh arrays."""
        for name, array in inputs.items():
            np.copyto(self._values.plain[name], array)
        self._loose.clear()
        for step in self._steps:
            step()
        found = {}
        for name in self.schedule.outputs:
            held = self._values.plain.get(name)
            found[name] = self._loose[name] if held is None else held.copy()
        return found

    def _add(self, call: Call) -> None:
        if isinstance(call, ProductCall):
            self._add_product(call)
        elif isinstance(call, PoolCall):
            self._add_pool(call)
        elif isinstance(call, JoinCall):
            self._values.join(call)
        elif isinstance(call, HostGroup):
            self._add_host(call)
        else:
            self._values.view(call)

    def _add_product(self, call: ProductCall) -> None:
        e = call.epilogue
        target = self._values.target(call.y, call.rows)
        weights = kernels.pack_weights(
            call.qw,
            call.scale,
            call.window,
            weight_window=call.weight_window,
            signed=call.signed,
            groups=call.groups,
        )
        self._steps.append(
            kernels.Conv(
                self._values.windows(call),
                weights,
                strides=call.strides,
                pads=call.pads,
                dilations=call.dilations,
                bias=call.bias,
                residual=None if e.residual is None else self._values.nhwc(e.residual, call.rows),
                activation=e.activation,
                alpha=e.alpha,
                lo=e.lo,
                hi=e.hi,
                dst=target.dst,
                dst_q=target.dst_q,
                pool=self._pool,
                gemm=self._gemm,
            )
        )
        self._values.convert(call.y, call.rows)

    def _add_pool(self, call: PoolCall) -> None:
        target = self._values.target(call.y, rows=False)
        shape = (target.dst if target.dst is not None else target.dst_q).shape  # type: ignore[union-attr]
        self._steps.append(
            kernels.Pooling(
                self._values.nhwc(call.x),
                "average" if call.average else "max",
                kernel=call.kernel,
                out_shape=shape[1:3],
                strides=call.strides,
                pads=call.pads,
                dilations=call.dilations,
                count_pads=call.count_pads,
                dst=target.dst,
                dst_q=target.dst_q,
                pool=self._pool,
            )
        )
        self._values.convert(call.y, rows=False)

    def _add_host(self, group: HostGroup) -> None:
        for name in group.writes:
            self._values.make_plain(name)
        plain = self._values.plain
        call = HostCall(
            open_session(group.data, self._threads, self._name),
            {n: plain[n] for n in group.reads if n in plain},
            {n: plain[n] for n in group.writes if n in plain},
        )
        self._steps.append(lambda: call(self._loose))
        for name in group.writes:
            self._values.convert(name)
