"""A layer by the int8 operators of PyTorch, which are oneDNN's, prepacked, channels last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from layer import INPUT_SCALE, OUTPUT_SCALE, Layer

Run = Callable[[], Any]


def torch_layer(layer: Layer, threads: int) -> Run:
    """A product to float32, a convolution to uint8 of NHWC."""
    import torch

    torch.set_num_threads(threads)
    scales = torch.from_numpy(layer.weight_scales())
    zeros = torch.zeros(layer.oc, dtype=torch.int32)
    one = torch.ops.onednn
    if layer.product:
        x = torch.from_numpy(layer.activations()[0, 0])
        w = torch.from_numpy(layer.weights().reshape(layer.oc, -1))
        packed = one.qlinear_prepack(w, list(x.shape))
        call = (x, INPUT_SCALE, 0, packed, scales, zeros, None, 1.0, 0, torch.float32)
        return lambda: one.qlinear_pointwise(*call, "none", [], "").numpy()
    x = torch.from_numpy(layer.activations()).permute(0, 3, 1, 2)  # NHWC in memory
    w = torch.from_numpy(np.ascontiguousarray(layer.weights().transpose(0, 3, 1, 2)))
    shape = ([layer.stride] * 2, [layer.pad] * 2, [1, 1], layer.groups)
    packed = one.qconv_prepack(w, scales, INPUT_SCALE, 0, *shape, list(x.shape))
    operands = (x, INPUT_SCALE, 0, packed, scales, zeros, None, *shape)
    result = (OUTPUT_SCALE, 0, torch.uint8, "relu", [], "")
    return lambda: one.qconv2d_pointwise(*operands, *result).permute(0, 2, 3, 1).numpy()
