"""The accel command from the outside: what it prints, the JSON it gives, the errors it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import accel
from accel.cli import main
from accel.cli.demo import PLAIN, QUADRANTS, draw
from accel.cli.output import human_bytes, human_count, human_seconds
from accel.cli.score import relative_error, score
from accel.demo import digits_model, digits_model_path, digits_test
from accel.errors import InputError

ROWS = 40
DIGITS = str(digits_model_path())


class Result:
    """Exit code and both streams of one call."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Result]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command in this process, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["accel", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        return Result(int(exit_.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first test digits as an archive."""
    images, labels = digits_test()
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, image=images[:ROWS], label=labels[:ROWS])
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour images of several sizes with a broken one among them, and labels."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(4):
        pixels = rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)
        (root / f"{i}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    (root / "9.jpg").write_bytes(b"broken")
    return root


@pytest.fixture(scope="session")
def resnet(shared: Path) -> Path:
    return shared / "data" / "models" / "resnet8_cifar10.onnx"


@pytest.fixture(scope="session")
def cifar(shared: Path) -> Path:
    return shared / "data" / "cifar10" / "cifar10_test_lossless.npz"


def test_devices_lists_every_device(call: Call) -> None:
    result = call("devices")
    assert result.code == 0
    for info in accel.devices():
        assert info.name in result.out


def test_devices_json_equals_the_api(call: Call) -> None:
    rows = call("devices", "--json").json
    assert [row["name"] for row in rows] == [info.name for info in accel.devices()]
    assert {row["name"]: row["available"] for row in rows}["cpu"] is True


def test_inspect_shows_inputs_and_every_layer(call: Call) -> None:
    result = call("inspect", DIGITS)
    assert result.code == 0
    assert "image (N, 1, 32, 32) float32" in result.out
    layers = accel.load(DIGITS).workload()
    assert all(layer.name in result.out for layer in layers)
    assert f"{len(layers)} layers" in result.out


def test_inspect_json_holds_the_workload(call: Call) -> None:
    found = call("inspect", DIGITS, "--json").json
    assert found["quantized"] is False and found["explain"] is None
    assert found["inputs"] == [{"name": "image", "shape": [None, 1, 32, 32], "dtype": "float32"}]
    macs = sum(layer.macs for layer in accel.load(DIGITS).workload())
    assert sum(layer["macs"] for layer in found["layers"]) == macs


def test_inspect_with_backend_explains_where_nodes_run(call: Call) -> None:
    result = call("inspect", DIGITS, "--backend", "cpu")
    assert result.code == 0
    assert "100.0% of the multiplications" in result.out
    assert "quantizing" in result.err


def test_quantize_writes_a_smaller_model_that_loads(call: Call, tmp_path: Path) -> None:
    target = tmp_path / "digits.int8.onnx"
    result = call("quantize", DIGITS, "-o", target)
    assert result.code == 0 and "times less" in result.out
    assert accel.load(target).is_quantized
    assert target.stat().st_size < digits_model_path().stat().st_size / 2


def test_quantize_without_output_writes_the_compressed_form_here(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("quantize", DIGITS).code == 0
    (written,) = tmp_path.iterdir()
    assert written.name.endswith(".int8.onnx.xz") and accel.load(written).is_quantized


def test_quantize_window_is_recorded(call: Call, tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    found = call("quantize", DIGITS, "-o", target, "--window", 32, "--json").json
    assert found["windows"] == [32]
    assert set(accel.load(target).windows.values()) == {32}
    assert found["bytes_after"] == target.stat().st_size


def test_run_json_equals_the_api(call: Call, digits: Path) -> None:
    result = call("run", DIGITS, "--input", digits, "--backend", "cpu", "--json")
    assert result.code == 0 and "quantizing" in result.err
    images, labels = digits_test()
    logits = accel.device("cpu").compile(digits_model().quantize()).run(images[:ROWS])
    rows = result.json["rows"]
    assert [row["class"] for row in rows] == logits.argmax(1).tolist()
    assert [row["label"] for row in rows] == labels[:ROWS].tolist()
    assert rows[0]["score"] == pytest.approx(float(logits[0].max()))


def test_run_prints_the_first_rows_and_the_accuracy(call: Call, digits: Path) -> None:
    result = call("run", DIGITS, "--input", digits, "--backend", "onnxruntime")
    assert result.code == 0
    assert f"and {ROWS - 20} more" in result.out
    assert f"{ROWS} rows on onnxruntime" in result.out and "as labelled" in result.out
    assert result.err == ""


def test_run_save_writes_every_output(call: Call, digits: Path, tmp_path: Path) -> None:
    target = tmp_path / "answers.npz"
    options = ("--backend", "onnxruntime", "--limit", 7, "--save", target)
    assert call("run", DIGITS, "--input", digits, *options).code == 0
    with np.load(target) as saved:
        assert saved["logits"].shape == (7, 10)


def test_run_folder_resizes_to_the_model_and_leaves_out_the_broken_file(
    call: Call, folder: Path, resnet: Path
) -> None:
    result = call("run", resnet, "-i", folder, "-b", "onnxruntime", "--scale", 1)
    assert result.code == 0
    assert "images are resized to 32x32" in result.err
    assert "left out 9.jpg" in result.err
    assert "4 rows on onnxruntime; 1 files left out" in result.out


def test_compare_json_scores_every_device(call: Call, digits: Path) -> None:
    options = ("--backends", "cpu,onnxruntime", "--json")
    found = call("compare", DIGITS, "--input", digits, *options).json
    assert found["rows"] == ROWS
    assert [r["device"] for r in found["runs"]] == ["onnxruntime", "cpu", "onnxruntime"]
    reference, cpu = found["runs"][0], found["runs"][1]
    assert reference["model"] == "fp32" and cpu["model"] == "int8"
    assert (reference["agreement"], reference["error"]) == (1.0, 0.0)
    assert (reference["won"], reference["lost"]) == (0, 0)
    assert cpu["bytes"] < reference["bytes"] and 0 < cpu["error"] < 0.1
    assert cpu["top1"] == pytest.approx(reference["top1"] + (cpu["won"] - cpu["lost"]) / ROWS)


def test_compare_prints_a_row_per_device_with_a_legend(call: Call, digits: Path) -> None:
    result = call("compare", DIGITS, "--input", digits, "--backends", "cpu")
    assert result.code == 0
    assert "fp32 (ref)" in result.out
    assert re.search(r"fp32 \d+ KB, int8 [\d.]+ KB", result.out)
    for word in ("top-1", "won", "lost", "as fp32", "latency", "rows/s"):
        assert word in result.out


def test_compare_resnet_on_cifar_keeps_its_accuracy(call: Call, resnet: Path, cifar: Path) -> None:
    options = ("--backends", "cpu", "--scale", 1, "--json")
    runs = call("compare", resnet, "--input", cifar, *options).json["runs"]
    assert runs[0]["top1"] == pytest.approx(0.8884, abs=0.0001)
    assert runs[1]["top1"] >= runs[0]["top1"] - 0.01
    assert runs[1]["agreement"] >= 0.97


def test_demo_json_finds_equal_devices(call: Call, tmp_path: Path) -> None:
    target = tmp_path / "demo.npz"
    result = call("demo", "--limit", ROWS, "--save", target, "--json")
    assert result.code == 0
    found = result.json
    names = [run["device"] for run in found["runs"]]
    assert names[0] == "onnxruntime" and "cpu" in names
    assert "cpu" in found["bit_identical"]
    for run in found["runs"]:
        assert run["agreement"] >= 0.95 and run["latency_ms"] > 0
    images, _ = digits_test()
    expected = accel.device("cpu").compile(digits_model().quantize()).run(images[:ROWS])
    with np.load(target) as saved:
        assert saved["logits"].tobytes() == expected.tobytes()
        assert saved["top1"].tolist() == expected.argmax(1).tolist()
        assert str(saved["device"]) == "cpu"


def test_demo_prints_digits_table_and_meaning(call: Call) -> None:
    result = call("demo", "--limit", ROWS)
    assert result.code == 0
    assert result.out.count("  reads ") == 4
    assert "fp32 reference" in result.out and "calibration" in result.out


def test_draw_fills_the_quarters_that_hold_ink() -> None:
    image = np.zeros((32, 32, 1), np.uint8)
    image[:16, 16:] = 255
    image[2:4, 0] = 255
    lines = draw(image, QUADRANTS)
    assert lines[0] == "▖" + " " * 7 + "█" * 8
    assert lines[1:4] == [" " * 8 + "█" * 8] * 3 and lines[4:] == [" " * 16] * 4
    assert draw(image, PLAIN)[0] == " " * 8 + "#" * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "nowhere.onnx"), "nowhere.onnx"),
        (("inspect", DIGITS, "--backend", "gpu"), "device 'gpu' not found"),
        (("run", DIGITS, "--input", "nowhere"), "no input at nowhere"),
        (("run", DIGITS, "--input", ".", "--order", "rbg"), "--order is rgb or bgr"),
        (("compare", DIGITS, "--input", ".", "--backends", "cpu,gpu"), "device 'gpu' not found"),
        (("quantize", DIGITS, "-o", "nowhere/m.onnx"), "folder does not exist"),
        (("quantize", DIGITS, "-o", "m.onnx", "--window", "0"), "window is 0"),
    ],
)
def test_user_error_is_one_line_and_exit_code_2(
    call: Call, arguments: tuple[str, ...], message: str
) -> None:
    result = call(*arguments)
    assert result.code == 2
    assert message in result.err and result.out == ""
    assert result.err.startswith("accel: ") and result.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--resize", "12y"),
        ("--resize", "1x2x3"),
        ("--resize", "0"),
        ("--mean", "a,b"),
        ("--std", ""),
        ("--limit", "0"),
        ("--batch-size", "-1"),
        ("--crop", "0"),
    ],
)
def test_bad_option_names_itself(call: Call, digits: Path, arguments: tuple[str, str]) -> None:
    result = call("run", DIGITS, "--input", digits, *arguments)
    assert result.code == 2
    assert arguments[0] in result.err and "Traceback" not in result.err


def test_normalization_of_a_float_input_is_refused(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((2, 1, 32, 32), np.float32))
    assert call("run", DIGITS, "--input", path, "-b", "onnxruntime").code == 0
    result = call("run", DIGITS, "--input", path, "-b", "onnxruntime", "--mean", "0.5")
    assert result.code == 2 and "are for uint8 images" in result.err


def test_save_into_missing_folder_is_an_error_line(
    call: Call, digits: Path, tmp_path: Path
) -> None:
    options = ("--backend", "onnxruntime", "--limit", 2, "--save", tmp_path / "no" / "a.npz")
    result = call("run", DIGITS, "--input", digits, *options)
    assert result.code == 2 and "cannot write" in result.err


def test_kernels_not_built_are_an_error_line() -> None:
    code = "import sys; sys.modules['accel._kernels'] = None; import accel.cli; accel.cli.main()"
    command = [sys.executable, "-c", code, "devices"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert "pip install -e ." in done.stderr and done.stderr.count("\n") == 1


def test_command_runs_as_a_process_without_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "accel.cli", "inspect", str(tmp_path / "no.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_score_counts_won_and_lost_images() -> None:
    labels = np.array([0, 1, 1, 0])
    reference = {"y": np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]}
    mine = {"y": np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]}
    found = score(mine, reference, labels)
    assert (found.top1, found.agreement, found.won, found.lost) == (0.5, 0.5, 1, 1)
    assert found.error == pytest.approx(1.0)


def test_score_without_classes_gives_the_error_alone() -> None:
    boxes = {"boxes": np.full((2, 5, 4), 2.0, np.float32)}
    found = score({"boxes": boxes["boxes"] * 1.5}, boxes, None)
    assert found.top1 is None and found.agreement is None
    assert found.error == pytest.approx(0.5)
    with pytest.raises(InputError, match=r"\(N, classes\)"):
        score(boxes, boxes, np.array([0, 1]))


def test_relative_error_of_a_zero_reference_is_absolute() -> None:
    zero = {"y": np.zeros(4, np.float32)}
    assert relative_error({"y": np.ones(4, np.float32)}, zero) == 2.0


def test_human_numbers_read_well() -> None:
    assert [human_bytes(n) for n in (12, 117_248, 4_960_000)] == ["12 B", "117 KB", "4.96 MB"]
    assert [human_count(n) for n in (7, 40_800_000)] == ["7 ", "40.80 M"]
    assert [human_seconds(s) for s in (85e-6, 0.0123)] == ["85 us", "12.30 ms"]
