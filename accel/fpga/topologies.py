"""Layer shapes of the published networks that cards are benchmarked with; no weights.

Shapes are those of the variants in the benchmark tables: Caffe models count a stride where Caffe
has it, TF-slim ResNets carry the stride in the last unit of a block. Pooling and element-wise
layers are left out, since only Conv and Gemm occupy an engine's array.

Sources: Simonyan 2014 (VGG); Szegedy 2015, 2016, 2017 (Inception v1, v3, v4); He 2016 (ResNet);
Iandola 2016 (SqueezeNet 1.1); Howard 2017, Sandler 2018 (MobileNet v1, v2); Redmon 2017, 2018
(YOLO v2, v3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accel.errors import InputError
from accel.fpga.stack import Stack
from accel.workload import Layer


def vgg(depths: Sequence[int], size: int = 224) -> list[Layer]:
    """VGG with `depths` convolutions in each of its five blocks."""
    net = Stack(size)
    for depth, channels in zip(depths, (64, 128, 256, 512, 512), strict=True):
        for _ in range(depth):
            net.conv(channels)
        net.pool()
    return net.dense(4096).dense(4096).dense(1000).layers


def resnet18(size: int = 224) -> list[Layer]:
    """ResNet-18: two 3x3 convolutions in a block."""
    net = Stack(size).conv(64, 7, 2).pool()
    for stage, channels in enumerate((64, 128, 256, 512)):
        for unit in range(2):
            stride = 2 if stage and not unit else 1
            if stride > 1:
                net.conv(channels, 1, stride, keep=True)
            net.conv(channels, 3, stride).conv(channels)
    return net.mean().dense(1000).layers


def resnet(units: Sequence[int], size: int = 224, slim: bool = False) -> list[Layer]:
    """ResNet with bottleneck blocks; `slim` carries the stride as TF-slim does."""
    net = Stack(size).conv(64, 7, 2).pool()
    for stage, (count, channels) in enumerate(zip(units, (64, 128, 256, 512), strict=True)):
        for unit in range(count):
            if slim:
                stride = 2 if stage < 3 and unit == count - 1 else 1
            else:
                stride = 2 if stage and not unit else 1
            if not unit:
                net.conv(4 * channels, 1, stride, keep=True)
            net.conv(channels, 1, 1 if slim else stride)
            net.conv(channels, 3, stride if slim else 1).conv(4 * channels, 1)
    return net.mean().dense(1000).layers


def squeezenet(size: int = 227) -> list[Layer]:
    """SqueezeNet 1.1."""
    net = Stack(size).conv(64, 3, 2, valid=True).pool(2, valid_kernel=3)
    for index, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if index in (2, 4):
            net.pool(2)
        net.conv(squeeze, 1)
        expand = 4 * squeeze
        net.join(net.branch((expand, 1)) + net.branch((expand, 3)))
    return net.conv(1000, 1).layers


def mobilenet_v1(size: int = 224) -> list[Layer]:
    """MobileNet v1, width 1.0."""
    net = Stack(size).conv(32, 3, 2)
    steps = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
             (1024, 2), (1024, 1)]  # fmt: skip
    for channels, stride in steps:
        net.depthwise(3, stride).conv(channels, 1)
    return net.mean().dense(1000).layers


def mobilenet_v2(size: int = 224) -> list[Layer]:
    """MobileNet v2, width 1.0."""
    net = Stack(size).conv(32, 3, 2).depthwise().conv(16, 1)
    steps = [(24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)]
    for channels, count, stride in steps:
        for unit in range(count):
            net.conv(6 * net.channels, 1).depthwise(3, stride if not unit else 1)
            net.conv(channels, 1)
    return net.conv(1280, 1).mean().dense(1000).layers


def inception_v1(size: int = 224) -> list[Layer]:
    """GoogLeNet."""
    net = Stack(size).conv(64, 7, 2).pool().conv(64, 1).conv(192).pool()
    blocks = [
        (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128), (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
    ]  # fmt: skip
    for index, (b1, r3, b3, r5, b5, pool) in enumerate(blocks):
        if index in (2, 7):
            net.pool()
        net.join(
            net.branch((b1, 1)) + net.branch((r3, 1), (b3, 3)) + net.branch((r5, 1), (b5, 5))
            + net.branch((pool, 1))
        )  # fmt: skip
    return net.mean().dense(1000).layers


def inception_v3(size: int = 299) -> list[Layer]:
    """Inception v3."""
    net = Stack(size).conv(32, 3, 2, valid=True).conv(32, 3, valid=True).conv(64)
    net.pool(2, valid_kernel=3).conv(80, 1).conv(192, 3, valid=True).pool(2, valid_kernel=3)
    b = net.branch
    for pool in (32, 64, 64):
        net.join(b((64, 1)) + b((48, 1), (64, 5)) + b((64, 1), (96, 3), (96, 3)) + b((pool, 1)))
    down = b((384, 3), stride=2) + b((64, 1), (96, 3), (96, 3), stride=2)
    net.join(down + net.channels, 2)
    for c in (128, 160, 160, 192):
        net.join(
            b((192, 1)) + b((c, 1), (c, (1, 7)), (192, (7, 1)))
            + b((c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (192, (1, 7))) + b((192, 1))
        )  # fmt: skip
    down = b((192, 1), (320, 3), stride=2)
    down += b((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), stride=2)
    net.join(down + net.channels, 2)
    for _ in range(2):
        wide = b((320, 1)) + b((192, 1))
        wide += _fork(net, [(384, 1)]) + _fork(net, [(448, 1), (384, 3)])
        net.join(wide)
    return net.mean().dense(1000).layers


def _fork(net: Stack, convs: list[tuple[int, int]], outputs: int = 384) -> int:
    """Append a chain that ends in a 1x3 and a 3x1 convolution side by side."""
    ic = net.branch(*convs)
    net.conv(outputs, (1, 3), ic=ic, keep=True).conv(outputs, (3, 1), ic=ic, keep=True)
    return 2 * outputs


def inception_v4(size: int = 299) -> list[Layer]:
    """Inception v4."""
    net = Stack(size).conv(32, 3, 2, valid=True).conv(32, 3, valid=True).conv(64)
    b = net.branch
    net.join(net.channels + b((96, 3), stride=2), 2)
    first, second = b((64, 1), (96, 3)), b((64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3))
    net.join(first + second)
    net.size -= 2  # both branches end without padding
    net.join(net.channels + b((192, 3), stride=2), 2)
    for _ in range(4):
        net.join(b((96, 1)) + b((64, 1), (96, 3)) + b((64, 1), (96, 3), (96, 3)) + b((96, 1)))
    net.join(net.channels + b((384, 3), stride=2) + b((192, 1), (224, 3), (256, 3), stride=2), 2)
    for _ in range(7):
        net.join(
            b((384, 1)) + b((192, 1), (224, (1, 7)), (256, (7, 1)))
            + b((192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7)))
            + b((128, 1))
        )  # fmt: skip
    down = b((192, 1), (192, 3), stride=2)
    down += b((256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3), stride=2)
    net.join(net.channels + down, 2)
    for _ in range(3):
        wide = b((256, 1)) + b((256, 1))
        wide += _fork(net, [(384, 1)], 256)
        ic = b((384, 1), (448, 1), (512, 3))
        net.conv(256, (1, 3), ic=ic, keep=True).conv(256, (3, 1), ic=ic, keep=True)
        net.join(wide + 512)
    return net.mean().dense(1000).layers


def yolo_v2(size: int = 448, classes: int = 20) -> list[Layer]:
    """YOLO v2 over Darknet-19."""
    net = Stack(size).conv(32).pool().conv(64).pool()
    for low, high, count in ((64, 128, 2), (128, 256, 2), (256, 512, 3)):
        for index in range(count):
            net.conv(high)
            if index < count - 1:
                net.conv(low, 1)
        if high < 512:
            net.pool()
    passed = net.branch((64, 1))
    net.pool()
    for index in range(3):
        net.conv(1024)
        if index < 2:
            net.conv(512, 1)
    net.conv(1024).conv(1024)
    net.join(net.channels + 4 * passed).conv(1024)
    return net.conv(5 * (5 + classes), 1).layers


def yolo_v3(size: int = 416, classes: int = 20) -> list[Layer]:
    """YOLO v3 over Darknet-53."""
    net = Stack(size).conv(32)
    for channels, count in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        net.conv(channels, 3, 2)
        for _ in range(count):
            net.conv(channels // 2, 1).conv(channels)
    for half in (512, 256, 128):
        if half < 512:
            net.conv(half, 1)
            net.size *= 2
            net.channels += 2 * half
        net.conv(half, 1).conv(2 * half).conv(half, 1).conv(2 * half).conv(half, 1)
        ic = net.branch((2 * half, 3))
        net.conv(3 * (5 + classes), 1, ic=ic, keep=True)
    return net.layers


TOPOLOGIES: dict[str, Callable[[], list[Layer]]] = {
    "inception_v1": inception_v1,
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "resnet50": lambda: resnet((3, 4, 6, 3)),
    "resnet50_slim": lambda: resnet((3, 4, 6, 3), slim=True),
    "resnet101": lambda: resnet((3, 4, 23, 3)),
    "resnet101_slim": lambda: resnet((3, 4, 23, 3), slim=True),
    "resnet152": lambda: resnet((3, 8, 36, 3)),
    "resnet152_slim": lambda: resnet((3, 8, 36, 3), slim=True),
    "squeezenet": squeezenet,
    "vgg16": lambda: vgg((2, 2, 3, 3, 3)),
    "vgg19": lambda: vgg((2, 2, 4, 4, 4)),
    "yolo_v2": yolo_v2,
    "yolo_v3": yolo_v3,
}
"""Makers of the known networks by name."""


def topology(name: str) -> list[Layer]:
    """Return the layers of a known network; raises InputError listing the names otherwise."""
    if name not in TOPOLOGIES:
        raise InputError(f"network {name!r} is not known; known: {', '.join(TOPOLOGIES)}")
    return TOPOLOGIES[name]()
