"""A plan: a schedule bound to memory. Shared by the devices that run our kernels."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from accel import kernels
from accel.draft import Draft
from accel.lanes import Place, calls_by_image, forms_at, handed_on, images_of, of_one_image
from accel.packed import PackedFor
from accel.schedule import PoolCall, ProductCall, Schedule
from accel.stage import Life, Stage

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


class Plan:
    """Steps with their memory. Built once; `run` only executes.

    Of a batch, the first calls may run image by image, each thread with memory for one image
    (`accel.lanes`); the others run for all images at once.

    Parameters
    ----------
    packed : gives the packed weights of each product.
    gemm : address of MKL's ``cblas_gemm_s8u8s32``, or None for our own dot kernels.

    Attributes
    ----------
    by_image : how many calls, from the first, run image by image.
    stages : of each thread for one image, if any calls do; the last: for the batch.
    """

    def __init__(
        self,
        schedule: Schedule,
        packed: PackedFor,
        name: str,
        threads: int,
        gemm: int | None = None,
    ) -> None:
        draft = partial(Draft, packed=packed, name=name, gemm=gemm)
        whole = draft(schedule, threads=threads)
        self.schedule = schedule
        self.by_image = calls_by_image(whole, threads)
        first = whole.ends[self.by_image] if self.by_image else 0
        outputs = [whole.plain[name] for name in schedule.outputs if name in whole.plain]
        self._batch = Stage(whole, outputs, first)
        places, lanes = handed_on(whole, first), []
        for _ in range(threads if self.by_image else 0):
            one = draft(of_one_image(schedule), threads=1, calls=self.by_image)
            lanes.append(Stage(one, forms_at(one, places)))
        self.stages = [*lanes, self._batch]
        self._lanes = self._bind_lanes(lanes, places) if lanes else None

    @property
    def pairs(self) -> list[tuple[ProductCall, ProductCall | PoolCall]]:
        """Two calls each that are one step."""
        return self._batch.draft.pairs

    @property
    def nbytes(self) -> int:
        """Of the memory of all values."""
        return sum(stage.arena.nbytes for stage in self.stages)

    def run(self, inputs: Arrays) -> Arrays:
        """Execute once; returns fresh arrays."""
        self._take(inputs)
        self._batch.run()
        plain, loose = self._batch.draft.plain, self._batch.draft.loose
        return {
            name: plain[name].array.copy() if name in plain else loose[name]
            for name in self.schedule.outputs
        }

    def seconds(self, inputs: Arrays, repeats: int) -> dict[str, float]:
        """Median time of every node over `repeats` runs, in s, its conversions included; that of a
        pair shared out by multiplications.

        Steps that run image by image are timed on one thread, and count for all images by all
        threads.
        """
        found: dict[str, float] = {}
        lanes = self.stages[:-1]
        for lane in lanes[:1]:
            first = {name: array[:1] for name, array in inputs.items()}
            times = _medians(lane, partial(lane.take, first), repeats)
            _add(found, lane, times * images_of(self.schedule) / len(lanes))
        _add(found, self._batch, _medians(self._batch, partial(self._take, inputs), repeats))
        for dense, call in self.pairs:
            macs = call.macs if isinstance(call, ProductCall) else 0
            share = found[call.name] * dense.macs / (dense.macs + macs)
            found[dense.name] = share
            found[call.name] -= share
        return found

    def moved(self) -> dict[str, int]:
        """Bytes of the weights and of all forms that each node touches."""
        found = {n: b for stage in self.stages for n, b in stage.draft.weight_bytes.items()}
        for step in self._batch.draft.steps:
            found[step.node] = found.get(step.node, 0) + sum(f.nbytes for f in step.touches)
        return found

    def lives(self) -> tuple[Life, ...]:
        """Every buffer that is used."""
        found: list[Life] = []
        offset = 0
        for stage in self.stages:
            found += stage.lives(offset)
            offset += stage.arena.nbytes
        return tuple(found)

    def _bind_lanes(self, lanes: list[Stage], places: list[Place]) -> kernels.Lanes:
        names, whole = self.schedule.inputs, self._batch.draft
        return kernels.Lanes(
            [kernels.Chain(lane.runs) for lane in lanes],
            [[lane.draft.plain[n].images(1)[0][0] for n in names] for lane in lanes],
            [[x[0] for x in _bytes_of(lane.draft, places, 1)] for lane in lanes],
            _bytes_of(whole, places, images_of(self.schedule)),
            whole.pool,
        )

    def _take(self, inputs: Arrays) -> None:
        """What the last stage reads: images taken through the first calls, and inputs."""
        if self._lanes is not None:
            self._lanes([inputs[name] for name in self.schedule.inputs])
        self._batch.take(inputs)


def _bytes_of(draft: Draft, places: list[Place], images: int) -> list[Array]:
    return [x for form in forms_at(draft, places) for x in form.images(images)]


def _medians(stage: Stage, take: Callable[[], None], repeats: int) -> Array:
    """Of the time of each step, in s."""
    times = np.empty((repeats, len(stage.runs)))
    for row in times:
        take()
        for i, run in enumerate(stage.runs):
            start = time.perf_counter()
            run()
            row[i] = time.perf_counter() - start
    return np.median(times, axis=0)


def _add(found: dict[str, float], stage: Stage, times: Array) -> None:
    for step, seconds in zip(stage.steps, times.tolist(), strict=True):
        found[step.node] = found.get(step.node, 0.0) + seconds
