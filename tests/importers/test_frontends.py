"""Files of TensorFlow, TFLite and PyTorch: the shared ones, and damaged ones."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

import accel
from accel.errors import AccelError, DeviceError, ModelError
from accel.importers.isolated import import_isolated
from accel.importers.kinds import kind_of

Array = np.ndarray[Any, Any]
ORIGINAL = Path("data", "models", "original")
RESNET8 = ["tensorflow/resnet8_savedmodel", "tensorflow/resnet8_cifar10_frozen.pb"]
SCRIPT = "torch/resnet20_cifar10_torchscript.pt"
HAS_TORCH = find_spec("torch") is not None  # no dependency: without it a typed error is expected


def cifar10(shared: Path) -> tuple[Array, Array]:
    with np.load(shared / "data" / "cifar10" / "cifar10_test_lossless.npz") as file:
        return file["image"], file["label"]


def agreement(model: accel.Model, images: Array, labels: Array) -> tuple[float, float]:
    """Accuracy in fp32, and how often int8 gives the same class."""
    shapes = {model.inputs[0].name: (50, *images.shape[1:])}
    fp32 = accel.device("onnxruntime").compile(model, shapes=shapes).run(images)
    program = accel.device("cpu").compile(model.quantize(), shapes=shapes)
    assert program.explain().share >= 0.98
    assert not [r for r in program.explain().rows if r.op == "Transpose" and r.macs]
    int8 = program.run(images)
    assert isinstance(fp32, np.ndarray) and isinstance(int8, np.ndarray)
    classes = fp32.argmax(axis=1)
    return float((classes == labels).mean()), float((int8.argmax(axis=1) == classes).mean())


@pytest.mark.parametrize("file", RESNET8)
def test_shared_tensorflow_model_equals_its_onnx_form(file: str, shared: Path) -> None:
    images, labels = cifar10(shared)
    model = accel.load(shared / ORIGINAL / file).with_preprocessing(scale=1.0)
    twin = accel.load(shared / "data" / "models" / "resnet8_cifar10.onnx")
    own, other = (agreement(m, images, labels) for m in (model, twin.with_preprocessing(scale=1.0)))
    assert round(own[0], 4) == 0.8884
    assert own[1] >= other[1]


def test_shared_tensorflow_convolutions_meet_no_transpose(shared: Path) -> None:
    model = accel.load(shared / ORIGINAL / RESNET8[0])
    rows = accel.device("cpu").compile(model.quantize(), batch_size=1).explain().rows
    last = max(i for i, row in enumerate(rows) if row.op.startswith("Conv"))
    assert [row.op for row in rows[:last] if not row.op.startswith("Conv")] == ["Transpose"]


def test_shared_tflite_model_equals_its_onnx_form(shared: Path, rng: np.random.Generator) -> None:
    model = accel.load(shared / ORIGINAL / "tflite" / "text_classification.tflite")
    twin = accel.load(shared / "data" / "models" / "text_classification.onnx")
    x = rng.integers(0, 10_000, (50, 256)).astype(np.float32)
    fp32, other = (accel.device("onnxruntime").compile(m).run(x) for m in (model, twin))
    assert isinstance(fp32, np.ndarray) and isinstance(other, np.ndarray)
    np.testing.assert_allclose(fp32, other, atol=1e-5)
    program = accel.device("cpu").compile(model.quantize())
    assert program.explain().share >= 0.98
    int8 = program.run(x)
    assert isinstance(int8, np.ndarray)
    np.testing.assert_allclose(int8, fp32, atol=0.02)


def test_tflite_convolutions_meet_no_transpose(rng: np.random.Generator) -> None:
    """The file holds, with random weights: strided and depthwise convolutions with ReLU6, a
    residual, Pad, Concat, an enlargement, Mean and a matrix product."""
    path = Path(__file__).with_name("convolutions.tflite")
    model, x = accel.load(path), rng.standard_normal((1, 17, 17, 3)).astype(np.float32)
    engine = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (want,) = engine([x]).values()
    fp32 = accel.device("onnxruntime").compile(model).run(x)
    assert isinstance(fp32, np.ndarray)
    np.testing.assert_allclose(fp32, want, rtol=1e-4, atol=1e-5)
    program = accel.device("cpu").compile(model.quantize())
    rows = program.explain().rows
    assert program.explain().share == 1.0
    assert [r.op for r in rows if r.macs] == [
        "Conv+Clip", "Conv+Clip", "Conv+Add+Relu", "Conv+Relu", "MatMul+Add",
    ]  # fmt: skip
    last = max(i for i, r in enumerate(rows) if r.op.startswith("Conv+"))
    assert [r.op for r in rows[:last]].count("Transpose") == 1  # of the input
    int8 = program.run(x)
    assert isinstance(int8, np.ndarray)
    np.testing.assert_allclose(int8, want, atol=0.02)


def test_int8_tflite_runs_on_own_code_within_a_few_steps(rng: np.random.Generator) -> None:
    """Convolutions with int8 weights per channel, a depthwise one and a residual."""
    path = Path(__file__).with_name("convolutions_int8.tflite")
    model, x = accel.load(path), rng.integers(-128, 128, (1, 17, 17, 3), np.int8)
    engine = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (want,) = engine([x]).values()
    program = accel.device("cpu").compile(model.quantize())
    assert [r.op for r in program.explain().rows if r.macs] == ["Conv+Clip"] * 3
    for device, version in (("onnxruntime", model), ("cpu", model.quantize())):
        got = accel.device(device).compile(version).run(x)
        assert isinstance(got, np.ndarray) and got.dtype == want.dtype == np.int8
        steps = np.abs(got.astype(int) - want.astype(int))
        assert steps.max() <= 3 and steps.mean() <= 0.3


def test_shared_torchscript_equals_its_onnx_form_or_says_what_is_missing(shared: Path) -> None:
    path = shared / ORIGINAL / SCRIPT
    if not HAS_TORCH:
        with pytest.raises(DeviceError, match="pip install torch"):
            accel.load(path)
        return
    images, labels = cifar10(shared)
    normal: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    model = accel.load(path).with_preprocessing(**normal)
    twin = accel.load(shared / "data" / "models" / "resnet20_cifar10.onnx")
    own, other = (agreement(m, images, labels) for m in (model, twin.with_preprocessing(**normal)))
    assert round(own[0], 4) == 0.9143
    assert own[1] >= other[1]


def test_shared_checkpoint_is_refused_unread(shared: Path) -> None:
    with pytest.raises(ModelError, match="TorchScript"):
        accel.load(shared / ORIGINAL / "torch" / "resnet20-12fca82f.th")


def test_damaged_torchscript_is_a_typed_error(
    shared: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    whole = (shared / ORIGINAL / SCRIPT).read_bytes()
    path = tmp_path / "net.pt"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError):
        accel.load(path)
    damaged = bytearray(whole)
    for place in rng.integers(0, len(whole), 300):
        damaged[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(damaged)
    with pytest.raises(ModelError if HAS_TORCH else AccelError):
        accel.load(path)


def exported(free: bool) -> tuple[Any, Any]:
    """A network of attention, and the same as an ExportedProgram for batches of 2, or of any."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
            self.head = torch.nn.Linear(32, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(x).mean(1))

    network = Network().eval()
    sizes = ({0: torch.export.Dim("batch", min=1, max=64)},) if free else None
    return network, torch.export.export(network, (torch.zeros(2, 7, 32),), dynamic_shapes=sizes)


@pytest.mark.parametrize("free", [False, True])
def test_exported_program_equals_pytorch_or_is_refused(
    free: bool, rng: np.random.Generator
) -> None:
    if not HAS_TORCH:
        pretended = type("ExportedProgram", (), {"__module__": "torch.export.exported_program"})
        with pytest.raises(ModelError, match="ExportedProgram"):
            accel.load(pretended())
        return
    import torch

    network, program = exported(free)
    model = accel.load(program)
    assert model.inputs[0].shape == (None if free else 2, 7, 32)
    x = rng.standard_normal((2, 7, 32)).astype(np.float32)
    with torch.no_grad():
        want = network(torch.from_numpy(x)).numpy()
    got = accel.device("onnxruntime").compile(model, batch_size=2).run(x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_exported_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/models/model.json", "{}")
    with pytest.raises(ModelError, match=r"torch\.export\.load"):
        accel.load(path)


@pytest.mark.parametrize("source", [7, None, [], {}])
def test_what_is_no_model_is_refused(source: Any) -> None:
    with pytest.raises(ModelError, match="expected a path"):
        accel.load(source)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [False, True])
def test_pickle_is_never_read(tmp_path: Path, zipped: bool) -> None:
    sign = tmp_path / "sign"
    data = pickle.dumps(Trap(sign))
    path = tmp_path / "net.pt"
    path.write_bytes(data)
    if zipped:  # the form of torch.save
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net/data.pkl", data)
            archive.writestr("net/version", "3")
    with pytest.raises(ModelError, match="TorchScript"):
        accel.load(path)
    pickle.loads(data)
    assert sign.exists()
    sign.unlink()
    with pytest.raises(ModelError):
        accel.load(path.read_bytes() if zipped else path)
    assert not sign.exists()


def test_missing_package_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update({'openvino': None, 'h5py': None, 'torch': None})\n"
        "from pathlib import Path\n"
        "from accel.importers.tensorflow import import_tensorflow\n"
        "from accel.importers.keras import import_keras\n"
        "from accel.errors import DeviceError\n"
        "for read in (import_tensorflow, import_keras):\n"
        "    try: read(Path(sys.argv[1]))\n"
        "    except DeviceError as err: print(err)\n"
    )
    path = tmp_path / "net"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert "pip install 'lwaccel[openvino]'" in done.stdout
    assert "pip install 'lwaccel[keras]'" in done.stdout


KINDS = {
    "a.pb": (b"\x0a\x05hello", "tensorflow"),
    "b.pb": (b"\x08\x0a", "onnx"),
    "a.bin": (b"\x1c\x00\x00\x00TFL3", "tflite"),
    "b": (b"\x89HDF\r\n\x1a\n", "keras"),
    "a.th": (b"\x80\x02", "torchscript"),
    "a.onnx": (b"\x08\x0a", "onnx"),
    "empty.tflite": (b"", "tflite"),
}


@pytest.mark.parametrize("name", KINDS)
def test_kind_is_told_by_content_then_suffix(tmp_path: Path, name: str) -> None:
    data, kind = KINDS[name]
    path = tmp_path / name
    path.write_bytes(data)
    assert kind_of(path) == kind


@pytest.mark.parametrize("file", [*RESNET8, "tflite/text_classification.tflite"])
def test_damaged_file_is_a_typed_error(
    file: str, shared: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    source, path = shared / ORIGINAL / file, tmp_path / Path(file).name
    if source.is_dir():
        shutil.copytree(source, path)
        (path / "saved_model.pb").chmod(0o644)
    else:
        shutil.copyfile(source, path)
    target = path / "saved_model.pb" if source.is_dir() else path
    whole = target.read_bytes()
    for size in (10, len(whole) // 2):
        target.write_bytes(whole[:size])
        with pytest.raises(ModelError):
            accel.load(path)
    for count in (3, 300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), count):
            damaged[place] ^= 1 << int(rng.integers(8))
        target.write_bytes(damaged)
        try:
            accel.load(path)
        except AccelError as err:
            assert str(err)


def test_crash_of_a_reader_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.kill(os.getpid(), 11)")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "net.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3")
    with pytest.raises(ModelError, match="ended with code -11"):
        import_isolated("tflite", path)


def test_folder_without_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"saved_model\.pb"):
        accel.load(tmp_path)
