"""Train the embedded digits model again: ``python examples/train_digits.py``.

Needs ``pip install torch scikit-learn``; takes about one minute on one core. The network is
small but holds what real ones hold: ordinary, strided, depthwise and 1x1 convolutions, batch
normalization (kept as its own node in the file, so that importing it exercises folding), a
residual sum, an average over the image and a dense layer. Training is seeded and sees only
the training half of `accel.demo.digits_halves`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from accel.demo import CLASSES, SIDE, digits_halves, digits_model_path

try:
    import torch
    from torch import nn
except ImportError:
    sys.exit("training needs PyTorch: pip install torch")

EPOCHS = 40
BATCH = 32
SHIFT = 3  # pixels: each training image is moved by up to this much
OPSET = 17


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch normalization."""

    def __init__(self, ic: int, oc: int, k: int = 3, stride: int = 1, groups: int = 1) -> None:
        conv = nn.Conv2d(ic, oc, k, stride, padding=k // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(oc))


class Residual(nn.Module):
    """relu(x + conv(relu(conv(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Separable(nn.Module):
    """Depthwise convolution of stride 2, then a 1x1 convolution to more channels."""

    def __init__(self, ic: int, oc: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(ic, ic, stride=2, groups=ic)
        self.pointwise = ConvNorm(ic, oc, k=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.pointwise(torch.relu(self.depthwise(x))))


class DigitsNet(nn.Module):
    """32x32 grey image in 0..1 to ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 16)
        self.blocks = nn.Sequential(
            Residual(16), Separable(16, 32), Residual(32), Separable(32, 64)
        )
        self.dense = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.stem(x)))
        logits: torch.Tensor = self.dense(x.mean(dim=(2, 3)))
        return logits


class OnnxWriter:
    """Writes the layers of a DigitsNet as ONNX nodes, in the order they are called."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, name: str, value: torch.Tensor) -> str:
        array = value.detach().numpy().astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv_norm(self, x: str, layer: ConvNorm, name: str) -> str:
        conv, norm = layer[0], layer[1]
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        pad = int(conv.padding[0])
        x = self.node(
            "Conv",
            [x, self.weight(f"{name}.weight", conv.weight)],
            f"{name}.conv",
            strides=list(conv.stride),
            pads=[pad] * 4,
            group=conv.groups,
        )
        state = norm.state_dict()
        keys = ["weight", "bias", "running_mean", "running_var"]
        parameters = [self.weight(f"{name}.norm.{key}", state[key]) for key in keys]
        return self.node("BatchNormalization", [x, *parameters], name, epsilon=norm.eps)

    def relu(self, x: str) -> str:
        return self.node("Relu", [x], f"{x}.relu")

    def block(self, x: str, layer: nn.Module, name: str) -> str:
        if isinstance(layer, Residual):
            y = self.relu(self.conv_norm(x, layer.first, f"{name}.first"))
            y = self.conv_norm(y, layer.second, f"{name}.second")
            return self.relu(self.node("Add", [x, y], f"{name}.sum"))
        assert isinstance(layer, Separable)
        x = self.relu(self.conv_norm(x, layer.depthwise, f"{name}.depthwise"))
        return self.relu(self.conv_norm(x, layer.pointwise, f"{name}.pointwise"))

    def network(self, net: DigitsNet) -> onnx.ModelProto:
        x = self.relu(self.conv_norm("image", net.stem, "stem"))
        for i, layer in enumerate(net.blocks):
            x = self.block(x, layer, f"block{i}")
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x], "average")], "flat")
        dense = [
            self.weight("dense.weight", net.dense.weight),
            self.weight("dense.bias", net.dense.bias),
        ]
        self.node("Gemm", [x, *dense], "logits", transB=1)
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])
        graph = helper.make_graph(self.nodes, "digits", [image], [logits], self.weights)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def to_tensor(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """(N, 32, 32, 1) uint8 to (N, 1, 32, 32) float32 in 0..1."""
    return torch.from_numpy(images.astype(np.float32).transpose(0, 3, 1, 2) / 255.0)


def moved(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image moved by its own number of pixels, paper (0) coming in at the edges."""
    padded = nn.functional.pad(x, [SHIFT] * 4)
    offsets = torch.randint(0, 2 * SHIFT + 1, (len(x), 2), generator=generator)
    views = [
        image[:, int(dy) : int(dy) + SIDE, int(dx) : int(dx) + SIDE]
        for image, (dy, dx) in zip(padded, offsets, strict=True)
    ]
    return torch.stack(views)


def train(x: torch.Tensor, labels: torch.Tensor, epochs: int = EPOCHS) -> DigitsNet:
    """Train from one seed on one thread, so that a machine gives the same weights each time."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(0)
    net = DigitsNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.02)
    steps = epochs * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for i in range(len(x) // BATCH):
            rows = order[i * BATCH : (i + 1) * BATCH]
            loss = nn.functional.cross_entropy(net(moved(x[rows], generator)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def accuracy(net: DigitsNet, x: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return float((net(x).argmax(dim=1) == labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded digits model.")
    parser.add_argument("-o", "--output", type=Path, default=digits_model_path())
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    (train_images, train_labels), (test_images, test_labels) = digits_halves()
    net = train(to_tensor(train_images), torch.from_numpy(train_labels), options.epochs)
    top1 = accuracy(net, to_tensor(test_images), torch.from_numpy(test_labels))
    model = OnnxWriter().network(net)
    onnx.save(model, options.output)
    size = options.output.stat().st_size
    print(f"trained on {len(train_labels)} images, tested on {len(test_labels)} others")
    print(f"top-1 {top1:.2%}; wrote {options.output} ({size / 1000:.0f} KB)")


if __name__ == "__main__":
    main()
