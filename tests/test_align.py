"""Values that lie so that they compress well, in files that say the same."""

from __future__ import annotations

import lzma

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from accel.align import BYTES, align_values
from accel.compress import compress


@pytest.mark.parametrize("seed", range(4))
def test_long_values_begin_at_multiples_of_four_from_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = onnx.GraphProto()
    for i, kind in enumerate([*[np.float32] * 20, *[np.int8] * 5, *[np.int16] * 20]):
        array = rng.integers(-99, 99, rng.integers(9, 300)).astype(kind)
        graph.initializer.append(
            numpy_helper.from_array(array, "w" * int(rng.integers(1, 9)) + str(i))
        )
    values = [numpy_helper.to_array(t) for t in graph.initializer]
    align_values(list(graph.initializer))
    data, place, places = graph.SerializeToString(), 0, []
    for tensor, value in zip(graph.initializer, values, strict=True):
        assert np.array_equal(numpy_helper.to_array(tensor), value)
        place = data.index(tensor.raw_data, place)
        places += [place] if value.dtype.itemsize > 1 else []
    assert len({place % BYTES for place in places}) == 1


def test_compressed_bytes_are_xz_of_the_same(rng: np.random.Generator) -> None:
    data = rng.integers(0, 9, 5000).astype(np.uint8).tobytes()
    assert lzma.decompress(compress(data)) == data and len(compress(data)) < len(data)
