"""A short run of the fuzzer; `fuzz.py` runs as long as one likes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fuzz
import mutate
import onnx
import pytest
from corpus import CASES, onnx_network
from onnx import TensorProto

import accel

# formats that are read in a process of their own take seconds each: their tests damage a few
FILES = {"onnx": 120, "onnx-int8": 60, "caffemodel": 60, "prototxt": 60}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fuzz.Worker]:
    """One process for all tests; it starts again by itself."""
    made = fuzz.Worker(tmp_path_factory.mktemp("fuzz") / "log")
    yield made
    made.close()


def test_corpus_is_valid_before_it_is_damaged(tmp_path: Path) -> None:
    for name in FILES:
        assert accel.load(CASES[name].write(tmp_path, lambda data: data)).outputs, name


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_end_in_typed_errors(name: str, worker: fuzz.Worker) -> None:
    answers = [worker.attempt(name, seed) for seed in range(FILES[name])]
    failed = {f"{name}:{i}": a for i, a in enumerate(answers) if a.startswith("FAILED")}
    assert not failed, worker.log.read_text()[-3000:]
    assert any(a == "ModelError" for a in answers)


def test_worker_tells_of_a_failure_and_goes_on(worker: fuzz.Worker) -> None:
    assert worker.attempt("no-such-file", 0).startswith("FAILED KeyError")
    process = worker.start()
    process.kill()
    process.wait()
    assert worker.attempt("caffemodel", 1) in ("ModelError", "loaded")


@pytest.mark.parametrize("place", ["/etc/passwd", "../net.onnx", "", ".", "a\0b", "x" * 5000])
def test_external_data_outside_the_folder_is_a_typed_error(tmp_path: Path, place: str) -> None:
    model = onnx.load_model_from_string(onnx_network())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    (tmp_path / "inner").mkdir()
    (tmp_path / "net.onnx").write_bytes(onnx_network())
    path = tmp_path / "inner" / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(accel.ModelError, match="model's own folder"):
        accel.load(path)


def test_link_out_of_the_folder_is_a_typed_error(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(onnx_network())
    tensor = model.graph.initializer[0]
    (tmp_path / "secret").write_bytes(tensor.raw_data)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "weights").symlink_to(tmp_path / "secret")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights")
    path = tmp_path / "inner" / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(accel.ModelError, match="model's own folder"):
        accel.load(path)


def test_damage_is_a_function_of_its_seed() -> None:
    data = onnx_network()
    for change in (mutate.damage, mutate.change_onnx):
        made = [change(data, seed) for seed in range(20)]
        assert made == [change(data, seed) for seed in range(20)] and len(set(made)) > 15


@pytest.mark.parametrize("shape", [(1 << 20, 3, 8, 8), (1, 3, 1 << 20, 1 << 20), (1, 1 << 40)])
def test_input_of_a_claimed_size_is_refused_before_it_is_taken(shape: tuple[int, ...]) -> None:
    x = onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = accel.load(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(accel.ModelError, match="at most"):
        accel.device("onnxruntime").compile(model)
