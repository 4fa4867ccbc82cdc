"""Operators that threads call image by image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accel import kernels
from accel.errors import KernelError

IMAGES, SHAPE = 5, (1, 3, 4, 6)


class Case:
    """For each thread an operator that quantizes an image of its own."""

    def __init__(self, threads: int) -> None:
        self.sources = [np.zeros(SHAPE, np.float32) for _ in range(threads)]
        self.tensors = [kernels.QTensor(SHAPE, 4, True, (1, 1, 1, 1)) for _ in range(threads)]
        self.batch = kernels.QTensor((IMAGES, *SHAPE[1:]), 4, True, (1, 1, 1, 1))
        one = kernels.Pool(1)
        self.options: dict[str, Any] = {
            "operators": [
                kernels.Chain([kernels.Quantize(x, t, one)])
                for x, t in zip(self.sources, self.tensors, strict=True)
            ],
            "inputs": [[x.view(np.uint8).reshape(-1)] for x in self.sources],
            "outputs": [[p[0] for p in t.images(1)] for t in self.tensors],
            "results": self.batch.images(IMAGES),
            "pool": kernels.Pool(threads),
        }

    def lanes(self, **changes: Any) -> kernels.Lanes:
        return kernels.Lanes(**{**self.options, **changes})


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_lanes_do_every_image_as_the_operator_does_the_batch(
    threads: int, rng: np.random.Generator
) -> None:
    case = Case(threads)
    lanes = case.lanes()
    want = kernels.QTensor((IMAGES, *SHAPE[1:]), 4, True, (1, 1, 1, 1))
    for _ in range(2):
        x = rng.standard_normal((IMAGES, *SHAPE[1:])).astype(np.float32)
        lanes([x])
        kernels.Quantize(x, want, kernels.Pool(1))()
        for got, expected in zip(case.batch.images(IMAGES), want.images(IMAGES), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_lanes_raise_what_the_operator_raises_and_take_the_next_batch(
    rng: np.random.Generator,
) -> None:
    case = Case(2)
    lanes = case.lanes()
    x = rng.standard_normal((IMAGES, *SHAPE[1:])).astype(np.float32)
    bad = x.copy()
    bad[3, 1, 2, 3] = np.nan
    with pytest.raises(KernelError, match=r"src holds NaN or infinity at \(0, 1, 2, 3\)"):
        lanes([bad])
    lanes([x])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": kernels.Pool(3)}, "as many for each of 3 threads"),
        ({"operators": []}, "as many for each"),
        ({"results": []}, "at least one"),
        ({"inputs": [[np.zeros(7, np.uint8)], [np.zeros(8, np.uint8)]]}, "expected \\(7,\\)"),
        ({"inputs": [[np.zeros(7, np.float32)]] * 2}, "dtype"),
        ({"results": [np.zeros((5, 9), np.uint8), np.zeros((5, 9), np.uint8)]}, "expected"),
    ],
)
def test_lanes_of_wrong_parts_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KernelError, match=message):
        Case(2).lanes(**changes)


def test_lanes_refuse_operators_of_several_threads_and_other_things() -> None:
    case = Case(1)
    many = kernels.Quantize(case.sources[0], case.tensors[0], kernels.Pool(2))
    with pytest.raises(KernelError, match="2 threads"):
        case.lanes(operators=[many])
    with pytest.raises(TypeError):
        case.lanes(operators=[print])
    with pytest.raises(KernelError, match="constructor"):
        case.lanes(operators=[kernels.Quantize.__new__(kernels.Quantize)])
    with pytest.raises(KernelError, match="constructor"):
        kernels.Lanes.__new__(kernels.Lanes)([])


def test_lanes_refuse_images_of_another_size() -> None:
    lanes = Case(1).lanes()
    x = np.zeros((IMAGES, *SHAPE[1:]), np.float32)
    for images in ([], [x[:-1]], [x[:, ::-1]], [x, x]):
        with pytest.raises(KernelError, match="expected"):
            lanes(images)


def test_tensor_images_cover_what_the_tensor_holds() -> None:
    tensor = kernels.QTensor((2, 3, 4, 6), 4, True, (1, 0, 1, 0))
    q, scale = tensor.images(2)
    assert q.shape == (2, 5 * 4 * 8) and scale.shape == (2, 5 * 4 * 2 * 4)
    assert np.shares_memory(q, tensor.q) and np.shares_memory(scale, tensor.scale)
    with pytest.raises(KernelError, match="no 7 images"):
        tensor.images(7)
    with pytest.raises(KernelError, match="of its own"):
        tensor.channels(4, 6).images(2)


def test_chain_calls_all_of_its_operators_in_order(rng: np.random.Generator) -> None:
    pool, x = kernels.Pool(2), rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    there, back = np.empty((2, 4, 5, 3), np.float32), np.empty_like(x)
    kernels.Chain([kernels.ToNHWC(x, there, pool), kernels.ToNCHW(there, back, pool)])()
    np.testing.assert_array_equal(back, x)


def test_chain_raises_what_its_operator_raises_and_stops_there(rng: np.random.Generator) -> None:
    case, pool = Case(1), kernels.Pool(1)
    after = np.zeros_like(case.sources[0])
    copy = kernels.ToNHWC(after.transpose(0, 3, 1, 2).copy(), after, pool)
    chain = kernels.Chain([kernels.Quantize(case.sources[0], case.tensors[0], pool), copy])
    case.sources[0][0, 2, 1, 0] = np.inf
    after[...] = 7
    with pytest.raises(KernelError, match=r"src holds NaN or infinity at \(0, 2, 1, 0\)"):
        chain()
    assert (after == 7).all()
    case.sources[0][...] = rng.standard_normal(SHAPE)
    chain()
    assert not after.any()


def test_chain_of_nothing_of_other_things_and_of_several_pools_is_refused() -> None:
    case = Case(2)
    with pytest.raises(KernelError, match="at least one"):
        kernels.Chain([])
    with pytest.raises(TypeError):
        kernels.Chain([print])
    with pytest.raises(KernelError, match="different pools"):
        kernels.Chain([kernels.Quantize(x, t, kernels.Pool(1))
                       for x, t in zip(case.sources, case.tensors, strict=True)])  # fmt: skip
    with pytest.raises(KernelError, match="constructor"):
        kernels.Chain.__new__(kernels.Chain)()
