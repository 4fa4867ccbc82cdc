"""The worker pool: several threads, fork, many short runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from kernel_oracle import ConvCase

from accel import kernels
from accel.kernels import Conv, Pool, QTensor, Quantize


def bound(pool: Pool, seed: int) -> tuple[Conv, np.ndarray, np.ndarray]:
    """A convolution, where it writes, and what it should write."""
    case = ConvCase(seed=seed, size=(16, 16), icg=16, ocg=40)
    x, want = case.data()["x"], case.run("scalar")
    src = QTensor(x.shape, case.window, True, case.pads)
    Quantize(x, src, pool)()
    got = np.zeros_like(want)
    conv = Conv(src, case.pack(), pads=case.pads, bias=case.data()["bias"], dst=got, pool=pool)
    return conv, got, want


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_pool_many_runs_same_bytes(threads: int) -> None:
    conv, got, want = bound(Pool(threads), 1)
    for _ in range(200):
        got[...] = 0
        conv()
        assert got.tobytes() == want.tobytes()


def test_pool_shared_by_python_threads() -> None:
    pool = Pool(2)
    parts = [bound(pool, seed) for seed in range(4)]

    def repeat(conv: Conv) -> None:
        for _ in range(100):
            conv()

    run_all([partial(repeat, conv) for conv, _, _ in parts])
    assert all(got.tobytes() == want.tobytes() for _, got, want in parts)


def test_one_operator_called_by_python_threads() -> None:
    conv, got, want = bound(Pool(2), 3)

    def repeat() -> None:
        for _ in range(50):
            conv()

    run_all([repeat] * 4)
    assert got.tobytes() == want.tobytes()


def test_python_threads_with_pools_of_their_own() -> None:
    def repeat(seed: int) -> None:
        conv, got, want = bound(Pool(2), seed)
        for _ in range(50):
            got[...] = 0
            conv()
            same.append(got.tobytes() == want.tobytes())

    same: list[bool] = []
    run_all([partial(repeat, seed) for seed in range(3)])
    assert len(same) == 150
    assert all(same)


def run_all(calls: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_pool_works_after_fork_while_another_thread_runs_it() -> None:
    """The child has no worker, and a pool that the parent's thread had locked."""
    pool, stop = Pool(2), threading.Event()
    conv, got, want = bound(pool, 2)
    busy, _, _ = bound(pool, 3)

    def repeat() -> None:
        while not stop.is_set():
            busy()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # a deadlock ends the child
                got[...] = 0
                conv()
                os._exit(0 if got.tobytes() == want.tobytes() else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        thread.join()


@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # fork with threads: the point
def test_pool_works_after_fork() -> None:
    pool = Pool(2)
    conv, got, want = bound(pool, 2)
    conv()
    child = os.fork()
    if child == 0:
        got[...] = 0
        conv()
        os._exit(0 if got.tobytes() == want.tobytes() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    got[...] = 0
    conv()
    assert got.tobytes() == want.tobytes()


def test_pool_ends_while_idle_and_while_new() -> None:
    for _ in range(50):
        pool = Pool(3)
        x = np.ones((100, 8), np.float32)
        Quantize(x[None, None], QTensor((1, 1, 100, 8), 8, True), pool)()
        del pool
    assert Pool(256).threads == 256


def test_threads_reach_functions() -> None:
    case = ConvCase(seed=9, size=(20, 20))
    one = case.run(kernels.isa())
    again = ConvCase(seed=9, size=(20, 20), threads=3).run(kernels.isa())
    assert one.tobytes() == again.tobytes()
