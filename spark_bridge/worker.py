"""Programs of one Python worker: compiled once, kept from task to task.

A worker process serves many tasks, one after the other. What it compiled stays until it is the
least recently used or the worker ends (Spark ends a worker that was idle for a minute).
"""

from __future__ import annotations

import gc
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial

from pyspark import TaskContext

import accel
from spark_bridge.detection import DetectingProgram
from spark_bridge.devices import compile_rows, device_name, held_card, is_card, open_device
from spark_bridge.guard import Breaker, Choice, Guard, Runs
from spark_bridge.prepacked import MAPPED, mapped, program_name
from spark_bridge.settings import Settings
from spark_bridge.spec import Spec

DeviceKey = tuple[str, str | None, str | None]
Key = tuple[str, DeviceKey, tuple[tuple[int | None, ...], ...], int, int]


class ProgramCache:
    """Least recently used programs, by model hash, device, shapes, batch size and threads.

    Attributes
    ----------
    loads : programs made so far.
    """

    def __init__(self) -> None:
        self._programs: OrderedDict[Key, accel.Program] = OrderedDict()
        self._lock = threading.Lock()
        self.loads = 0

    def get(self, key: Key, make: Callable[[], accel.Program], slots: int) -> accel.Program:
        """The program of `key`, made when absent; at most `slots` programs are kept."""
        with self._lock:
            if key not in self._programs:
                while len(self._programs) >= slots:
                    self._programs.popitem(last=False)
                self._programs[key] = make()
                self.loads += 1
            self._programs.move_to_end(key)
            return self._programs[key]

    def forget(self, key: Key) -> None:
        """Let go of a program that is of no more use."""
        with self._lock:
            self._programs.pop(key, None)

    def __len__(self) -> int:
        return len(self._programs)


programs = ProgramCache()
breaker = Breaker()


@contextmanager
def task(spec: Spec) -> Iterator[Guard]:
    """What computes the batches of this task; holds the card of the task, if it has one.

    Raises
    ------
    ModelError, DeviceError, UnsupportedError
        This executor lacks the file or the engine, or the device refuses the model, and no other
        may take its place.
    """
    _keep_modules()
    with held_card(spec.settings.backend):
        yield guard(spec)


def guard(spec: Spec) -> Guard:
    """As `task`, for one that holds its card already."""
    settings = spec.settings
    if spec.kind != "tensor":
        _limit_opencv(task_threads(settings.threads))
    names = dict.fromkeys([settings.backend, *settings.fallback])
    choices = [_choice(spec, replace(settings, backend=name)) for name in names]
    if not settings.fallback:
        choices[0].program()  # what it lacks is said as it is
    return Guard(choices, breaker)


def _choice(spec: Spec, settings: Settings) -> Choice:
    """One device for this task; its program is cached, or compiled from the shipped file."""
    threads = task_threads(settings.threads)
    rows = tuple(spec.inputs.values())

    def compiled() -> accel.Program:
        device, model = open_device(settings), spec.model.load()
        return compile_rows(device, model, rows, settings.batch_size, threads)

    def make() -> accel.Program:
        if name not in MAPPED:
            return compiled()
        file = program_name(spec.model.digest, rows, settings.batch_size)
        return mapped(file, compiled, threads)

    name = device_name(settings.backend)
    device = (name, settings.fpga_card, settings.fpga_faults)
    shapes = tuple(row.shape for row in rows)
    key = (spec.model.digest, device, shapes, settings.batch_size, threads)
    timeout_s = settings.fpga_timeout_ms / 1000 if is_card(name) else None

    def get() -> Runs:
        program = programs.get(key, make, settings.cache_slots)
        return DetectingProgram(program, spec.min_score) if spec.detector is not None else program

    return Choice(name, get, partial(programs.forget, key), timeout_s, device[1:])


def task_threads(wanted: int | None) -> int:
    """Threads a task may use: as many as Spark gave it cores, or fewer when asked for fewer."""
    context = TaskContext.get()
    cores = context.cpus() if context is not None else 1
    return min(wanted or cores, cores)


@cache
def _keep_modules() -> None:
    """Spark collects garbage after every task; what was imported is none, and takes 60 ms."""
    gc.freeze()


def _limit_opencv(threads: int) -> None:
    """Keep OpenCV to the cores of the task, and its complaints out of the executor's log: the
    row carries them."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # read at import
    try:
        import cv2
    except ImportError:
        return  # the first image says what to install
    cv2.setNumThreads(threads)
