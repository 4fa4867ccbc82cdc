"""Model: loading, quantizing, saving; bad files and bad arguments."""

from __future__ import annotations

import lzma
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import FLOAT, Net, small_cnn
from onnx import helper

import accel
from accel.errors import InputError, ModelError


@pytest.fixture(scope="module")
def model() -> accel.Model:
    return accel.load(small_cnn())


def test_load_reads_inputs_and_outputs(model: accel.Model) -> None:
    (x,), (y,) = model.inputs, model.outputs
    assert (x.name, x.shape, x.dtype) == ("image", (None, 3, 13, 11), np.dtype("float32"))
    assert (y.name, y.shape, y.dtype) == ("logits", (None, 10), np.dtype("float32"))


def test_load_keeps_the_values_of_the_file(model: accel.Model, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 3, 13, 11)).astype(np.float32)
    expected = onnxruntime.InferenceSession(small_cnn()).run(None, {"image": x})[0]
    np.testing.assert_allclose(run(model, "onnxruntime", x), expected, rtol=1e-5, atol=1e-5)


def test_load_reads_xz_and_plain_files_alike(tmp_path: Path, model: accel.Model) -> None:
    (tmp_path / "m.onnx").write_bytes(small_cnn())
    (tmp_path / "m.onnx.xz").write_bytes(lzma.compress(small_cnn()))
    plain, packed = accel.load(tmp_path / "m.onnx"), accel.load(str(tmp_path / "m.onnx.xz"))
    assert plain.name == packed.name == "m"
    assert plain.digest == packed.digest == model.digest


def test_save_compresses_what_ends_in_xz(tmp_path: Path, model: accel.Model) -> None:
    path = model.quantize().save(tmp_path / "m.onnx.xz")
    assert lzma.decompress(path.read_bytes()) == model.quantize().to_bytes()
    assert accel.load(path).digest == model.quantize().digest


def test_model_survives_pickling(model: accel.Model) -> None:
    again = pickle.loads(pickle.dumps(model.quantize()))
    assert again.digest == model.quantize().digest and again.is_quantized


@pytest.mark.parametrize("weight_window", [None, 16, 32])
def test_save_opens_in_onnxruntime_and_loads_back_to_the_same_bits(
    tmp_path: Path, model: accel.Model, weight_window: int | None, rng: np.random.Generator
) -> None:
    quantized = model.quantize(weight_window=weight_window)
    path = quantized.save(tmp_path / "q.onnx")
    onnx.checker.check_model(onnx.load(path))
    assert onnx.load(path).opset_import[0].version >= 21
    x = rng.standard_normal((2, 3, 13, 11)).astype(np.float32)
    from_file = onnxruntime.InferenceSession(path).run(None, {"image": x})[0]
    assert np.corrcoef(from_file.ravel(), run(model, "onnxruntime", x).ravel())[0, 1] > 0.999
    again = accel.load(path)
    assert again.is_quantized and again.windows == quantized.windows
    np.testing.assert_array_equal(run(again, "cpu", x), run(quantized, "cpu", x))


def test_quantize_without_arguments_records_a_window_for_every_product(model: accel.Model) -> None:
    first, *others = model.quantize().windows.values()
    assert first == 0  # an image: one scale
    assert len(others) == 5 and set(others) <= {32, 64, 128}


@pytest.mark.parametrize("text", ["", "-1", "513", "32.0", "a window", "0"])
def test_a_recorded_window_that_makes_no_sense_is_refused(model: accel.Model, text: str) -> None:
    graph = model.quantize().graph()
    node = next(n for n in graph.graph if n.name == "conv_3")
    node.metadata_props["lwaccel.window"] = text
    broken = accel.Model.from_graph(graph, "broken")
    with pytest.raises(accel.ModelError, match=r"'conv_3': its window .* expected 1\.\.512"):
        accel.device("cpu").compile(broken)


def test_quantize_takes_the_given_window(model: accel.Model) -> None:
    assert set(model.quantize(window=48).windows.values()) == {48}


def test_quantize_shrinks_large_weights_four_times(rng: np.random.Generator) -> None:
    net = Net()
    y = net.conv(net.conv("image", 128, 64), 128, 128)
    data = net.model({"image": [1, 64, 8, 8]}, {y: [1, 128, 4, 4]})
    assert len(accel.load(data).quantize().to_bytes()) < 0.26 * len(data)


def test_quantize_twice_is_refused(model: accel.Model) -> None:
    with pytest.raises(ModelError, match="quantized already"):
        model.quantize().quantize()


@pytest.mark.parametrize("arguments", [{"window": 0}, {"window": 513}, {"weight_window": -1}])
def test_quantize_refuses_windows_out_of_range(
    model: accel.Model, arguments: dict[str, int]
) -> None:
    with pytest.raises(InputError, match=r"expected 1\.\.512"):
        model.quantize(**arguments)


def test_model_without_products_quantizes_and_runs(rng: np.random.Generator) -> None:
    net = Net()
    y = net.op("Relu", "x")
    model = accel.load(net.model({"x": ["N", 4]}, {y: ["N", 4]})).quantize()
    x = rng.standard_normal((3, 4)).astype(np.float32)
    program = accel.device("cpu").compile(model)
    np.testing.assert_array_equal(program.run(x), np.maximum(x, 0))
    assert program.explain().share == 1.0


def test_load_of_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        accel.load(tmp_path / "absent.onnx")


def test_load_of_a_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a file"):
        accel.load(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 100, b"PK\x03\x04 not a model", small_cnn()[:-500], small_cnn()[:40]]
)
def test_load_of_what_is_no_model_is_a_typed_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        accel.load(path)


def test_load_of_flipped_bytes_loads_or_gives_a_typed_error(rng: np.random.Generator) -> None:
    data = np.frombuffer(small_cnn(), np.uint8)
    refused = 0
    for _ in range(60):
        broken = data.copy()
        broken[rng.integers(0, 400, 3)] ^= rng.integers(1, 256, 3).astype(np.uint8)
        try:
            accel.load(broken.tobytes())
        except ModelError:
            refused += 1
    assert refused > 5


def test_load_of_truncated_xz_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx.xz"
    path.write_bytes(lzma.compress(small_cnn())[:-30])
    with pytest.raises(ModelError, match="truncated"):
        accel.load(path)
    path.write_bytes(b"no xz at all")
    with pytest.raises(ModelError, match=r"not valid \.xz"):
        accel.load(path)


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\x00" * 64)
    folder = tmp_path / "model"
    folder.mkdir()
    tensor = onnx.TensorProto(name="w", data_type=FLOAT, dims=[16])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [16])],
        [helper.make_tensor_value_info("y", FLOAT, [16])],
        [tensor],
    )
    path = folder / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ModelError, match="own folder"):
        accel.load(path)


def test_save_into_a_missing_folder_says_so(tmp_path: Path, model: accel.Model) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        model.save(tmp_path / "no" / "m.onnx")


def test_preprocessing_equals_normalising_by_hand(
    model: accel.Model, rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (4, 13, 11, 3), dtype=np.uint8)
    mean, std = (np.array(v, np.float32) for v in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    folded = model.with_preprocessing(mean.tolist(), std.tolist(), order="bgr")
    assert folded.inputs[0].shape == (None, 13, 11, 3) and folded.inputs[0].dtype == np.uint8
    x = ((images[..., ::-1] / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    expected = run(model, "onnxruntime", np.ascontiguousarray(x, np.float32))
    np.testing.assert_allclose(run(folded, "onnxruntime", images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "arguments",
    [{"mean": [1.0, 2.0]}, {"std": [1.0, 0.0, 1.0]}, {"scale": 0.0}, {"order": "grb"}],
)
def test_preprocessing_refuses_bad_arguments(
    model: accel.Model, arguments: dict[str, object]
) -> None:
    with pytest.raises(InputError):
        model.with_preprocessing(**arguments)  # type: ignore[arg-type]


def test_preprocessing_needs_an_image_input() -> None:
    net = Net()
    y = net.op("Relu", "x")
    model = accel.load(net.model({"x": ["N", 4]}, {y: ["N", 4]}))
    with pytest.raises(ModelError, match="image"):
        model.with_preprocessing()


def test_workload_counts_every_multiplication(model: accel.Model) -> None:
    layers = {layer.name: layer for layer in model.workload(batch_size=2)}
    first = layers["conv_0"]
    assert (first.n, first.oh, first.ow, first.oc, first.ic) == (2, 13, 11, 24, 3)
    assert first.macs == 2 * 13 * 11 * 24 * 3 * 9
    assert layers["fc"].macs == 2 * 36 * 10
    assert len(layers) == 6


def run(model: accel.Model, device: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    found = accel.device(device).compile(model).run(x)
    assert isinstance(found, np.ndarray)
    return found
