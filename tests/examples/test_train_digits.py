"""The training script: three epochs where PyTorch is there, a clear word where it is not.

PyTorch is no dependency of the tests, so both outcomes are checked against what is installed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from accel.demo import digits_model_path, digits_test

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "train_digits.py"
BETTER_THAN_CHANCE = 0.5


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_three_epochs_learn_or_asks_for_pytorch(tmp_path: Path) -> None:
    target = tmp_path / "digits.onnx"
    done = run("--epochs", "3", "-o", str(target))
    if importlib.util.find_spec("torch") is None:
        assert done.returncode != 0 and done.stderr == "training needs PyTorch: pip install torch\n"
        return
    assert done.returncode == 0, done.stderr
    images, labels = digits_test()
    x = (images.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    (logits,) = ort.InferenceSession(target).run(None, {"image": x})
    top1 = np.mean(logits.argmax(1) == labels)
    assert top1 > BETTER_THAN_CHANCE
    assert f"top-1 {top1:.2%}" in done.stdout
    assert operators(target) == operators(digits_model_path())


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]
