"""Sentence encoders with seeded weights: the right work, no accuracy.

Source: Wang et al. 2020 (MiniLM, six layers of 384 features and twelve heads; the weights are those
of no training), written as PyTorch exports it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from topologies import Net

import accel

LAYERS, HIDDEN, HEADS = 6, 384, 12


def minilm(words: int) -> accel.Model:
    """MiniLM behind its embedding, float32 (N, words, 384) to (N, 384): 10.6 M weights."""
    net = Net()
    x = _norm(net, "words")
    for _ in range(LAYERS):
        x = _norm(net, net.op("Add", _attention(net, x), x))
        inner = _gelu(net, _dense(net, x, HIDDEN, 4 * HIDDEN))
        x = _norm(net, net.op("Add", _dense(net, inner, 4 * HIDDEN, HIDDEN), x))
    y = net.op("ReduceMean", x, axes=[1], keepdims=0)
    return net.close_over("words", ["N", words, HIDDEN], {y: ["N", HIDDEN]}, f"minilm_{words}")


ENCODERS: dict[str, Callable[[], accel.Model]] = {
    f"minilm_{words}": partial(minilm, words) for words in (32, 128, 256)
}


def _dense(net: Net, x: str, inputs: int, outputs: int) -> str:
    product = net.op("MatMul", x, net.normal((inputs, outputs), inputs**-0.5))
    return net.op("Add", product, net.normal((outputs,), 0.1))


def _norm(net: Net, x: str) -> str:
    """Uneven factors, as training leaves them."""
    factors = net.op("Exp", net.normal((HIDDEN,), 0.5))
    return net.op("LayerNormalization", x, factors, net.normal((HIDDEN,), 0.1), axis=-1)


def _gelu(net: Net, x: str) -> str:
    erf = net.op("Erf", net.op("Div", x, net.scalar(2**0.5)))
    return net.op("Mul", net.op("Mul", x, net.op("Add", erf, net.scalar(1.0))), net.scalar(0.5))


def _attention(net: Net, x: str) -> str:
    def heads(value: str, perm: list[int]) -> str:
        shape = net.integers([0, 0, HEADS, HIDDEN // HEADS])
        return net.op("Transpose", net.op("Reshape", value, shape), perm=perm)

    query, key, value = (_dense(net, x, HIDDEN, HIDDEN) for _ in range(3))
    scores = net.op("MatMul", heads(query, [0, 2, 1, 3]), heads(key, [0, 2, 3, 1]))
    scaled = net.op("Div", scores, net.scalar(float(np.sqrt(HIDDEN // HEADS))))
    mixed = net.op("MatMul", net.op("Softmax", scaled, axis=-1), heads(value, [0, 2, 1, 3]))
    joined = net.op("Transpose", mixed, perm=[0, 2, 1, 3])
    flat = net.op("Reshape", joined, net.integers([0, 0, HIDDEN]))
    return _dense(net, flat, HIDDEN, HIDDEN)
