"""Times of every node beside what it computes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import accel
from accel.cli import app
from tests.networks import small_cnn


@pytest.fixture(scope="module")
def model() -> accel.Model:
    return accel.load(small_cnn()).quantize()


@pytest.mark.parametrize("name", ["cpu", "mkl"])
def test_every_own_node_has_a_time_and_its_bytes(model: accel.Model, name: str) -> None:
    found = accel.device(name).compile(model, batch_size=2).profile(repeats=3)
    assert found.peak is not None and found.peak > 1e8
    own = [row for row in found.rows if row.own]
    assert own and all(row.seconds is not None and row.seconds > 0 for row in own)
    assert all(row.bytes > row.macs / 1e6 for row in own)
    assert found.share == accel.device(name).compile(model).explain().share
    lines = str(found).splitlines()
    assert any(line.startswith("one batch: ") for line in lines)
    titles = next(line for line in lines if line.startswith("node"))
    assert all(word in titles for word in ("MMAC", "KB", "us", "peak"))
    assert len(json.dumps(found.to_dict())) > 100


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "auto"])
def test_other_engines_tell_the_time_of_the_batch(model: accel.Model, name: str) -> None:
    found = accel.device(name).compile(model).profile(repeats=2)
    assert any("one batch: " in note for note in found.notes)


def test_profile_leaves_the_results_as_they_are(
    model: accel.Model, rng: np.random.Generator
) -> None:
    program = accel.device("cpu").compile(model)
    x = rng.standard_normal((1, *model.inputs[0].shape[1:])).astype(np.float32)  # type: ignore[arg-type]
    before = program.run(x)
    program.profile(x, repeats=2)
    np.testing.assert_array_equal(program.run(x), before)


def test_wrong_requests_are_refused(model: accel.Model) -> None:
    program = accel.device("cpu").compile(model)
    with pytest.raises(accel.InputError, match=r"repeats is 0; expected 1\.\.10000"):
        program.profile(repeats=0)
    shape = (2, *model.inputs[0].shape[1:])
    with pytest.raises(accel.InputError, match="x has 2 rows; expected one batch of 1"):
        program.profile(np.zeros(shape, np.float32))  # type: ignore[arg-type]


def test_command_prints_a_table_or_json(
    model: accel.Model, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    model.save("m.onnx")
    table = CliRunner().invoke(app, ["profile", "m.onnx", "--repeats", "2"])
    assert table.exit_code == 0 and "one batch: " in table.stdout
    found = json.loads(CliRunner().invoke(app, ["profile", "m.onnx", "--json"]).stdout)
    assert found["peak"] > 0 and found["rows"][0]["seconds"] > 0
