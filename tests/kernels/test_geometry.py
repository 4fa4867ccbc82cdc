"""How convolutions cut images into lines and tiles: every cut gives the sums of float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernel_oracle import ConvCase
from test_products import check_close, check_isas_agree

from accel import kernels

CASE = ConvCase(seed=5, kernel=(1, 1), pads=(0, 0, 0, 0), icg=20, ocg=40)
ABOVE_AND_BELOW = {"kernel": (5, 3), "pads": (6, 1, 7, 1), "dilations": (3, 1)}


@pytest.mark.parametrize("channels", [12, 40])
@pytest.mark.parametrize(
    ("n", "size"),
    [
        (1, (3, 29)),  # one area, tiles of 8 and 7
        (1, (2, 32)),
        (1, (2, 33)),  # two areas of a line
        (1, (1, 75)),
        (2, (9, 1)),  # lines along y
        (40, (1, 1)),  # lines through the images
        (3, (7, 7)),
    ],
)
def test_conv_any_line_close_to_float64(n: int, size: tuple[int, int], channels: int) -> None:
    case = replace(CASE, n=n, size=size, ocg=channels, arrays={})
    check_isas_agree(case)
    check_close(case, case.run(kernels.isa()))


@pytest.mark.parametrize("width", [7, 10, 13, 14])
@pytest.mark.parametrize("channels", [12, 40])
@pytest.mark.parametrize("weight_window", [None, 32])
@pytest.mark.parametrize("icg", [16, 68])
def test_conv_taps_side_by_side_close_to_float64(
    width: int, channels: int, weight_window: int | None, icg: int
) -> None:
    """Windows of 16 channels, and of 32 and 4: a kernel's row at once, and tiles' ends in parts."""
    case = ConvCase(
        seed=7,
        size=(3, width),
        kernel=(3, 3),
        pads=(1, 1, 1, 1),
        icg=icg,
        ocg=channels,
        window=32,
        weight_window=weight_window,
        arrays={},
    )
    check_isas_agree(case)
    check_close(case, case.run(kernels.isa()))


@pytest.mark.parametrize("window", [8, None])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_taps_outside_of_the_image_close_to_float64(window: int | None, stride: int) -> None:
    """Whole kernels, and a part of their rows, lie above or below the image."""
    case = ConvCase(
        seed=6, size=(4, 9), window=window, strides=(stride, 1), arrays={}, **ABOVE_AND_BELOW
    )
    check_isas_agree(case)
    check_close(case, case.run(kernels.isa()))


@pytest.mark.parametrize(
    ("width", "kernel", "pad", "dilation", "stride"),
    [
        (19, 3, 6, 6, 1),  # segments of 6, 7 and 6 pixels
        (75, 3, 12, 12, 1),  # areas end inside of segments
        (33, 5, 8, 4, 2),  # columns come one after the other
        (21, 3, 30, 5, 1),  # pixels that see padding alone
        (9, 3, 3, 3, 1),  # too few pixels to cut off
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_taps_beside_the_image_close_to_float64(
    width: int, kernel: int, pad: int, dilation: int, stride: int, groups: int
) -> None:
    """Columns of the kernel lie left or right of the image."""
    case = ConvCase(
        seed=7, size=(5, width), kernel=(3, kernel), pads=(1, pad, 1, pad), ocg=24, groups=groups,
        dilations=(1, dilation), strides=(1, stride), window=4, arrays={},
    )  # fmt: skip
    check_isas_agree(case)
    check_close(case, case.run(kernels.isa()))


def test_conv_image_scale_of_every_image_counts(isa: str) -> None:
    """Two images of one pixel each are one line of the product."""
    x = np.array([[[[1, -1, 0.5]]], [[[100, -100, 50]]]], np.float32)  # NHWC
    src = kernels.QTensor((2, 1, 1, 3), None, True)
    with kernels.use_isa(isa):
        weights = kernels.pack_weights(np.ones((4, 1, 1, 3), np.int8), np.ones(4, np.float32), None)
    pool = kernels.Pool(1)
    kernels.QuantizePlanes(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), src, pool)()
    y = np.empty((2, 1, 1, 4), np.float32)
    kernels.Conv(src, weights, dst=y, pool=pool)()
    assert np.allclose(y[1], 100 * y[0])
    assert np.allclose(y[0], 0.5, atol=0.01)


@pytest.mark.parametrize("channels", [8, 64])
@pytest.mark.parametrize("signed", [True, False])
def test_clip_far_values_quantize_as_the_limit(isa: str, channels: int, signed: bool) -> None:
    """Levels beyond the range of int32 would wrap: those of 1e12 are those of the limit, 6."""
    x = np.zeros((1, 1, 3, channels), np.float32)
    x[..., 0, 0], x[..., 1, 0], x[..., 1, 1] = 1e12, 3.0, -1e12
    with kernels.use_isa(isa):
        weights = kernels.pack_weights(
            np.eye(channels, dtype=np.int8)[:, None, None], np.ones(channels, np.float32), 1
        )
    src, pool = kernels.QTensor(x.shape, 1, True), kernels.Pool(1)
    kernels.Quantize(x, src, pool)()
    dst = kernels.QTensor(x.shape, channels, signed)
    kernels.Conv(src, weights, activation="clip", lo=0.0, hi=6.0, dst_q=dst, pool=pool)()
    zero, top = (128, 127) if signed else (0, 255)
    assert np.allclose(dst.scale.ravel(), np.float32([6.0, 3.0, 0.0]) / np.float32(top), rtol=1e-5)
    levels = dst.q.reshape(3, channels).astype(int) - zero
    assert levels[0, 0] == top and levels[1, 0] == top
    assert levels[1, 1] == 0 and not levels[2].any()
