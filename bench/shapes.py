"""The layers that are measured: shapes of known networks, each shape once, by network."""

from __future__ import annotations

from layer import Layer


def conv(size: int, ic: int, oc: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> Layer:
    """Named as "3x3/2 64-128@56"; the window is 128 channels, or all where there are fewer."""
    kind = "depthwise " if groups == ic > 1 else "grouped " if groups > 1 else ""
    name = f"{kind}{kernel}x{kernel}{f'/{stride}' if stride > 1 else ''} {ic}-{oc}@{size}"
    return Layer(name, size, ic, oc, kernel, stride, groups)


def depthwise(size: int, channels: int, stride: int = 1, kernel: int = 3) -> Layer:
    return conv(size, channels, channels, kernel, stride, channels)


def product(m: int, n: int, k: int) -> Layer:
    return Layer(f"{m}x{n}x{k}", m, k, n, product=True)


RESNET50 = [
    conv(224, 3, 64, 7, 2),
    conv(56, 64, 64),
    conv(56, 64, 64, 3),
    conv(56, 64, 256),
    conv(56, 256, 64),
    conv(56, 256, 128),
    conv(56, 128, 128, 3, 2),
    conv(28, 128, 512),
    conv(56, 256, 512, 1, 2),
    conv(28, 512, 128),
    conv(28, 128, 128, 3),
    conv(28, 512, 256),
    conv(28, 256, 256, 3, 2),
    conv(14, 256, 1024),
    conv(28, 512, 1024, 1, 2),
    conv(14, 1024, 256),
    conv(14, 256, 256, 3),
    conv(14, 1024, 512),
    conv(14, 512, 512, 3, 2),
    conv(7, 512, 2048),
    conv(14, 1024, 2048, 1, 2),
    conv(7, 2048, 512),
    conv(7, 512, 512, 3),
]
MOBILENETV2 = [
    conv(224, 3, 32, 3, 2),
    depthwise(112, 32),
    conv(112, 32, 16),
    conv(112, 16, 96),
    depthwise(112, 96, 2),
    conv(56, 96, 24),
    conv(56, 24, 144),
    depthwise(56, 144),
    conv(56, 144, 24),
    depthwise(56, 144, 2),
    conv(28, 144, 32),
    conv(28, 32, 192),
    depthwise(28, 192),
    conv(28, 192, 32),
    depthwise(28, 192, 2),
    conv(14, 192, 64),
    conv(14, 64, 384),
    depthwise(14, 384),
    conv(14, 384, 64),
    conv(14, 384, 96),
    conv(14, 96, 576),
    depthwise(14, 576),
    conv(14, 576, 96),
    depthwise(14, 576, 2),
    conv(7, 576, 160),
    conv(7, 160, 960),
    depthwise(7, 960),
    conv(7, 960, 160),
    conv(7, 960, 320),
    conv(7, 320, 1280),
]
VGG16 = [
    conv(224, 3, 64, 3),
    conv(224, 64, 64, 3),
    conv(112, 64, 128, 3),
    conv(112, 128, 128, 3),
    conv(56, 128, 256, 3),
    conv(56, 256, 256, 3),
    conv(28, 256, 512, 3),
    conv(28, 512, 512, 3),
    conv(14, 512, 512, 3),
]
SSD300 = [  # what VGG16 at 300x300 adds: other tiles of pixels, the heads
    conv(300, 64, 64, 3),
    conv(150, 128, 128, 3),
    conv(75, 256, 256, 3),
    conv(38, 512, 512, 3),
    conv(19, 512, 512, 3),
    conv(19, 1024, 1024),
    conv(19, 1024, 256),
    conv(19, 256, 512, 3, 2),
    conv(10, 512, 128),
    conv(10, 128, 256, 3, 2),
    conv(38, 512, 16, 3),
    conv(38, 512, 84, 3),
    conv(19, 1024, 126, 3),
]
SQUEEZENET = [
    conv(224, 3, 64, 3, 2),
    conv(56, 64, 16),
    conv(56, 16, 64),
    conv(56, 16, 64, 3),
    conv(28, 128, 32),
    conv(28, 32, 128),
    conv(28, 32, 128, 3),
    conv(14, 384, 48),
    conv(14, 48, 192),
    conv(14, 48, 192, 3),
    conv(14, 512, 64),
    conv(14, 64, 256, 3),
    conv(14, 512, 1000),
]
RESNEXT = [conv(28, 128, 128, 3, groups=32), conv(14, 512, 512, 3, groups=32)]
FIRST = [  # of small networks: MobileNetV1-0.25, RFB-320, YOLO-Fastest, YOLOv8s
    conv(96, 3, 8, 3, 2),
    conv(320, 3, 16, 3, 2),
    conv(320, 3, 8, 3, 2),
    conv(320, 3, 32, 3, 2),
]
NETWORKS = {
    "first": FIRST,
    "resnet50": RESNET50,
    "mobilenetv2": [layer for layer in MOBILENETV2 if layer.groups == 1],
    "vgg16": VGG16,
    "ssd300": SSD300,
    "squeezenet": SQUEEZENET,
    "resnext": RESNEXT,
}

DEPTHWISE = {
    "3x3": [layer for layer in MOBILENETV2 if layer.groups > 1],
    "narrow": [  # few channels: MobileNetV1-0.25 at 96 x 96, YOLO-Fastest at 320 x 320
        depthwise(48, 8),
        depthwise(48, 16, 2),
        depthwise(24, 32),
        depthwise(12, 64),
        depthwise(6, 128),
        depthwise(160, 8),
        depthwise(40, 48),
    ],
    "5x5": [
        depthwise(28, 120, kernel=5),
        depthwise(28, 120, 2, kernel=5),
        depthwise(20, 96, kernel=5),
        depthwise(14, 480, kernel=5),
        depthwise(10, 192, kernel=5),
        depthwise(7, 960, kernel=5),
    ],
}

SQUARES = [product(1024, 1024, 1024)]
LARGE = [product(2048, 2048, 2048), product(4096, 4096, 4096)]
MINILM = [product(128, 384, 384), product(128, 1536, 384), product(128, 384, 1536)]  # 128 tokens
HEADS = [product(1, 1000, 2048), product(1, 4096, 4096), product(16, 1024, 1024)]
PRODUCTS = {"square": SQUARES, "large": LARGE, "minilm": MINILM, "head": HEADS}

MODES = ["A-128", "C", "A-256", "A-64", "A-32", "AW-128", "AW-64", "AW-32"]  # the first is default
