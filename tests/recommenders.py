"""Recommendation networks as exporters write them: seeded embeddings and dense layers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from networks import Net
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]


class Recommender(Net):
    """Embeddings and dense layers."""

    def embedding(self, index: str, rows: int, columns: int) -> str:
        table = self.rng.standard_normal((rows, columns)).astype(np.float32)
        return self.op("Gather", self.constant(f"table{len(self.weights)}", table), index)

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        n = len(self.weights)
        w = (self.rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)
        b = (self.rng.standard_normal(outputs) * 0.1).astype(np.float32)
        return self.op("Gemm", x, self.constant(f"w{n}", w), self.constant(f"b{n}", b), transB=1)

    def tower(self, x: str, sizes: list[int]) -> str:
        for inputs, outputs in pairwise(sizes):
            x = self.op("Relu", self.dense(x, inputs, outputs))
        return x

    def score(self, parts: list[str], size: int) -> str:
        return self.op("Sigmoid", self.dense(self.op("Concat", *parts, axis=1), size, 1))

    def close(self, y: str, integers: dict[str, list[Any]], floats: dict[str, list[Any]]) -> bytes:
        proto = onnx.load_from_string(self.model(floats, {y: ["N", 1]}))
        for name, shape in integers.items():
            info = helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            proto.graph.input.append(info)
        return bytes(proto.SerializeToString())


def ncf(users: int = 6040, items: int = 3706) -> bytes:
    """Neural collaborative filtering: product of factors beside a tower of dense layers."""
    net = Recommender()
    product = net.op("Mul", net.embedding("user", users, 64), net.embedding("item", items, 64))
    pair = [net.embedding("user", users, 128), net.embedding("item", items, 128)]
    tower = net.tower(net.op("Concat", *pair, axis=1), [256, 256, 128, 64])
    return net.close(net.score([product, tower], 128), {"user": ["N"], "item": ["N"]}, {})


def wide_and_deep(words: int = 10000) -> bytes:
    """A linear part over crossed features beside a tower over embeddings and numbers."""
    net = Recommender()
    found = net.op(
        "Reshape", net.embedding("ids", words, 32), net.constant("s", np.array([-1, 256]))
    )
    deep = net.tower(net.op("Concat", found, "numbers", axis=1), [256 + 13, 1024, 512, 256])
    return net.close(
        net.score([deep, "crossed"], 256 + 100),
        {"ids": ["N", 8]},
        {"numbers": ["N", 13], "crossed": ["N", 100]},
    )
