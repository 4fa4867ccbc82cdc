"""Prepacked programs: one worker compiles, the others map what it saved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyspark import SparkFiles
from pyspark.sql import SparkSession

import accel
from spark_bridge import predict
from spark_bridge.prepacked import mapped, program_name


@pytest.fixture
def compiled(cnn: accel.Model) -> accel.Program:
    return accel.device("cpu").compile(cnn, batch_size=8)


def test_mapped_compiles_once_and_gives_the_same_bits(
    compiled: accel.Program, tmp_path: Path, rng: np.random.Generator
) -> None:
    made: list[int] = []

    def make() -> accel.Program:
        made.append(1)
        return compiled

    programs = [mapped("network.program", make, threads, tmp_path) for threads in (1, 1, 2)]
    x = rng.integers(0, 256, (8, 16, 16, 3), np.uint8)
    expected = np.asarray(compiled.run(x))
    assert len(made) == 1 and len(list(tmp_path.glob("*.program"))) == 1
    assert all(np.array_equal(np.asarray(p.run(x)), expected) for p in programs)
    mapped("another.program", make, 1, tmp_path)
    assert len(made) == 2


def test_mapped_without_room_on_the_disk_stays_in_memory(
    compiled: accel.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiled, "save", full)
    assert mapped("network.program", lambda: compiled, 1, tmp_path) is compiled


def test_executors_get_the_program_that_the_driver_has_compiled(
    spark: SparkSession, cnn: accel.Model, files: list[bytes]
) -> None:
    df = spark.createDataFrame([(file,) for file in files[:3]], "content binary")
    predicted = predict(df, cnn, batch_size=3)
    rows = [accel.TensorSpec(i.name, i.shape[1:], i.dtype) for i in cnn.inputs]
    shipped = Path(SparkFiles.get(program_name(cnn.digest, tuple(rows), 3)))
    before = shipped.read_bytes()
    assert predicted.where("prediction.error is null").count() == 3
    assert accel.load_program(shipped).batch_size == 3 and shipped.read_bytes() == before


def test_program_name_tells_models_shapes_and_batches_apart(cnn: accel.Model) -> None:
    rows = tuple(accel.TensorSpec(i.name, i.shape[1:], i.dtype) for i in cnn.inputs)
    other = (accel.TensorSpec(rows[0].name, (8, 8, 3), rows[0].dtype),)
    names = {program_name("a", rows, 1), program_name("b", rows, 1), program_name("a", other, 1),
             program_name("a", rows, 2)}  # fmt: skip
    assert len(names) == 4


LIGHT = """
import sys
import numpy as np, pyarrow as pa
import accel
from spark_bridge import core
from spark_bridge.guard import Choice, Guard
from spark_bridge.settings import Settings
from spark_bridge.ship import ModelRef
from spark_bridge.spec import Spec

program = accel.load_program(sys.argv[1])
(row,) = (accel.TensorSpec(i.name, i.shape[1:], i.dtype) for i in program.inputs)
spec = Spec(ModelRef("", 0, ""), "tensor", "classify", {row.name: "x"}, {row.name: row}, "y", 1,
            tuple("0123456789"), None, False, None, Settings())
buffers = [None, *map(pa.py_buffer, (np.array([0, 768], np.int32), bytes(768)))]
batch = pa.RecordBatch.from_arrays([pa.Array.from_buffers(pa.binary(), 1, buffers)], ["x"])
(found,) = core.run([batch], spec, Guard([Choice("cpu", lambda: program)]))
assert found.column("y").field("error").null_count == 1
print(*{"onnx", "onnx_ir", "onnxruntime", "pandas", "pyarrow.compute", "simpy"} & set(sys.modules))
"""


def test_worker_with_a_program_imports_no_library_that_it_does_not_need(
    compiled: accel.Program, tmp_path: Path
) -> None:
    path = compiled.save(tmp_path / "program")
    command = [sys.executable, "-c", LIGHT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
