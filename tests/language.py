"""A sentence encoder of MiniLM's form, as exporters write it: seeded weights, opset 17."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from networks import FLOAT, Net
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]


class Encoder(Net):
    """Collects the nodes of a transformer; values are (batch, sequence, hidden)."""

    def __init__(self, hidden: int, heads: int, seed: int = 0) -> None:
        super().__init__(seed)
        self.hidden, self.heads = hidden, heads

    def number(self, value: float) -> str:
        return self.constant(f"n{len(self.weights)}", np.float32(value))

    def ints(self, *values: int) -> str:
        return self.constant(f"i{len(self.weights)}", np.array(values, np.int64))

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        """MatMul and Add, as PyTorch's Linear is exported for three dimensions."""
        n = len(self.weights)
        w = self.rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)
        b = self.rng.standard_normal(outputs) * 0.1
        product = self.op("MatMul", x, self.constant(f"w{n}", w.astype(np.float32)))
        return self.op("Add", self.constant(f"b{n}", b.astype(np.float32)), product)

    def norm(self, x: str) -> str:
        """LayerNormalization with uneven factors, as training leaves them."""
        n = len(self.weights)
        gamma = np.exp(self.rng.standard_normal(self.hidden) * 0.5).astype(np.float32)
        beta = (self.rng.standard_normal(self.hidden) * 0.1).astype(np.float32)
        names = [self.constant(f"g{n}", gamma), self.constant(f"h{n}", beta)]
        return self.op("LayerNormalization", x, *names, axis=-1)

    def gelu(self, x: str) -> str:
        """x / 2 * (1 + erf(x / sqrt(2)))."""
        erf = self.op("Erf", self.op("Div", x, self.number(2**0.5)))
        return self.op(
            "Mul", self.op("Mul", x, self.op("Add", erf, self.number(1))), self.number(0.5)
        )

    def attention(self, x: str, mask: str) -> str:
        def split(value: str, perm: list[int]) -> str:
            shape = self.ints(0, 0, self.heads, self.hidden // self.heads)
            return self.op("Transpose", self.op("Reshape", value, shape), perm=perm)

        query, key, value = (self.dense(x, self.hidden, self.hidden) for _ in range(3))
        scores = self.op("MatMul", split(query, [0, 2, 1, 3]), split(key, [0, 2, 3, 1]))
        scaled = self.op("Div", scores, self.number((self.hidden / self.heads) ** 0.5))
        shares = self.op("Softmax", self.op("Add", scaled, mask), axis=-1)
        mixed = self.op("MatMul", shares, split(value, [0, 2, 1, 3]))
        joined = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        flat = self.op("Reshape", joined, self.ints(0, 0, self.hidden))
        return self.dense(flat, self.hidden, self.hidden)

    def layer(self, x: str, mask: str) -> str:
        x = self.norm(self.op("Add", self.attention(x, mask), x))
        inner = self.gelu(self.dense(x, self.hidden, 4 * self.hidden))
        return self.norm(self.op("Add", self.dense(inner, 4 * self.hidden, self.hidden), x))


def minilm(layers: int = 6, hidden: int = 384, heads: int = 12, words: int = 30522) -> bytes:
    """Sentences to unit vectors: `input_ids` and `attention_mask` (N, S) int64."""
    net = Encoder(hidden, heads)
    table = (net.rng.standard_normal((words, hidden)) * 0.05).astype(np.float32)
    places = (net.rng.standard_normal((512, hidden)) * 0.05).astype(np.float32)
    x = net.op("Gather", net.constant("words", table), "input_ids")
    length = net.op("Gather", net.op("Shape", "input_ids"), net.ints(1))
    place = net.op("Slice", net.constant("places", places), net.ints(0), length, net.ints(0))
    x = net.norm(net.op("Add", x, place))
    real = net.op("Cast", "attention_mask", to=FLOAT)
    wide = net.op("Unsqueeze", real, net.ints(1, 2))
    mask = net.op("Mul", net.op("Sub", net.number(1), wide), net.number(-10000))
    for _ in range(layers):
        x = net.layer(x, mask)
    weights = net.op("Unsqueeze", real, net.ints(-1))
    total = net.op("ReduceSum", net.op("Mul", x, weights), net.ints(1), keepdims=0)
    count = net.op("ReduceSum", real, net.ints(1), keepdims=1)
    y = net.op("LpNormalization", net.op("Div", total, count), axis=-1, p=2)
    data = net.model({}, {y: ["N", hidden]})
    proto = onnx.load_from_string(data)
    for name in ("input_ids", "attention_mask"):
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "S"]))
    return bytes(proto.SerializeToString())


def sentences(rng: np.random.Generator, n: int, length: int, words: int) -> dict[str, Array]:
    """Word numbers with a padded end of any length."""
    ids = rng.integers(1, words, (n, length))
    ends = rng.integers(length // 4, length + 1, (n, 1))
    mask = (np.arange(length) < ends).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask}
