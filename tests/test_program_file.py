"""Programs in files: the same bits back, and no trust in what a file says."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import accel
from accel import kernels
from accel.backends.cpu import PlanProgram
from accel.demo import digits_model
from tests.networks import Net, small_cnn

HEAD = struct.Struct("<8sQI")
pytestmark = pytest.mark.usefixtures("small_layers_pay")


def branched() -> bytes:
    """Every kind of call: products of all forms, pools, joins, views, residuals, host groups."""
    net = Net()
    a = net.op("Relu", net.conv("x", 8, 3, pads=[1] * 4))
    b = net.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2])
    c = net.op("AveragePool", a, kernel_shape=[2, 2], strides=[2, 2])
    d = net.op("Concat", b, c, axis=1)
    e = net.op("Relu", net.op("Add", net.conv(d, 16, 16, k=1), d))
    f = net.conv(e, 16, 16, group=16, pads=[1] * 4)
    h = net.op("Sin", f)
    k = net.op("Relu", net.conv(net.op("HardSwish", net.conv(h, 40, 16)), 64, 40, k=1))
    i = net.op("Flatten", net.op("GlobalAveragePool", net.conv(k, 64, 64, pads=[1] * 4)))
    w = net.constant("w", np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32))
    return net.model(
        {"x": ["N", 3, 12, 10]}, {net.op("MatMul", i, w): ["N", 5], d: ["N", 16, 6, 5]}
    )


def outputs(y: Any) -> list[Any]:
    return list(y.values()) if isinstance(y, dict) else [y]


@pytest.mark.parametrize("weight_window", [None, 16])
@pytest.mark.parametrize("build", [branched, small_cnn])
def test_a_program_comes_back_with_the_same_bits(
    build: Any, weight_window: int | None, tmp_path: Path, rng: np.random.Generator
) -> None:
    model = accel.load(build()).quantize(weight_window=weight_window)
    program = accel.device("cpu").compile(model, batch_size=2)
    path = program.save(tmp_path / "p.lwprogram")
    x = rng.standard_normal((5, *model.inputs[0].shape[1:])).astype(np.float32)  # type: ignore[arg-type]
    for threads in (1, 2):
        again = accel.load_program(path, threads)
        assert (again.inputs, again.outputs) == (program.inputs, program.outputs)
        for got, want in zip(outputs(again.run(x)), outputs(program.run(x)), strict=True):
            np.testing.assert_array_equal(got, want)
        assert [r.node for r in again.explain().rows] == [r.node for r in program.explain().rows]
        assert again.explain().share == program.explain().share


def test_a_saved_program_can_be_saved_again(tmp_path: Path) -> None:
    first = accel.device("cpu").compile(digits_model().quantize()).save(tmp_path / "a")
    second = accel.load_program(first).save(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_programs_of_one_model_share_their_weights() -> None:
    model = digits_model().quantize()
    programs = [accel.device("cpu").compile(model, batch_size=b, threads=b) for b in (1, 2)]
    held = []
    for program in programs:
        assert isinstance(program, PlanProgram)
        calls = [c for c in program.schedule.calls if getattr(c, "macs", 0)]
        held.append([id(program._packed(c)) for c in calls])  # type: ignore[arg-type]
    assert held[0] == held[1] and len(held[0]) > 5


@pytest.mark.parametrize("name", ["mkl", "onnxruntime", "openvino", "fpga"])
def test_other_devices_say_that_they_cannot_save(name: str, tmp_path: Path) -> None:
    program = accel.device(name).compile(digits_model().quantize())
    with pytest.raises(accel.UnsupportedError, match="compile for 'cpu'"):
        program.save(tmp_path / "p")


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    program = accel.device("cpu").compile(digits_model().quantize())
    with pytest.raises(accel.ModelError, match="its folder does not exist"):
        program.save(tmp_path / "no" / "p")


def test_a_file_for_another_instruction_set_is_refused(tmp_path: Path) -> None:
    with kernels.use_isa("scalar"):
        program = accel.device("cpu").compile(digits_model().quantize(window=48))
        path = program.save(tmp_path / "p")
    if kernels.isa() != "scalar":
        with pytest.raises(accel.DeviceError, match="packed for scalar"):
            accel.load_program(path)
    with kernels.use_isa("scalar"):
        assert accel.load_program(path).explain().share >= 0.98


@pytest.fixture(scope="module")
def saved(small_layers_pay: None, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "p"
    model = accel.load(branched()).quantize()
    return accel.device("cpu").compile(model).save(path).read_bytes()


@pytest.mark.parametrize("data", [b"", b"LW", b"\x08\x07" * 50, b"LWPROG1\n" + b"\xff" * 40])
def test_what_is_no_program_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(data)
    with pytest.raises(accel.ModelError):
        accel.load_program(path)
    with pytest.raises(accel.ModelError, match="cannot read program"):
        accel.load_program(tmp_path / "missing")
    with pytest.raises(accel.ModelError, match="cannot read program"):
        accel.load_program(tmp_path)


@pytest.mark.parametrize("threads", [0, 257])
def test_wrong_threads_are_refused(threads: int, tmp_path: Path) -> None:
    with pytest.raises(accel.InputError, match=r"expected 1\.\.256"):
        accel.load_program(tmp_path / "p", threads)


def attempt(data: bytes, path: Path) -> None:
    """Either a typed error, or a program that runs or raises a typed error."""
    path.write_bytes(data)
    try:
        program = accel.load_program(path)
        program.run(np.ones((1, 3, 12, 10), np.float32))
    except accel.AccelError:
        pass


HOSTILE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@HOSTILE
@given(cut=st.floats(0, 1), flip=st.floats(0, 1), bit=st.integers(0, 7))
def test_truncated_and_flipped_files(
    saved: bytes, tmp_path: Path, cut: float, flip: float, bit: int
) -> None:
    attempt(saved[: int(cut * len(saved))], tmp_path / "p")
    damaged = bytearray(saved)
    damaged[int(flip * (len(saved) - 1))] ^= 1 << bit
    attempt(bytes(damaged), tmp_path / "p")


ODD = st.sampled_from(
    [None, -1, 0, 1, 3, 2**31, 2**63, 1.5, "", "x", [], {}, [1], True, [2**40, 2**40]]
)


@HOSTILE
@given(data=st.data(), odd=ODD)
def test_headers_that_lie(saved: bytes, tmp_path: Path, data: Any, odd: Any) -> None:
    header = header_of(saved)
    places: list[tuple[Any, Any]] = []
    collect(header, places)
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = odd
    attempt(with_header(saved, header), tmp_path / "p")


def header_of(saved: bytes) -> Any:
    _, length, _ = HEAD.unpack_from(saved)
    return json.loads(saved[HEAD.size : HEAD.size + length])


def with_header(saved: bytes, header: Any) -> bytes:
    """The same blobs behind another header."""
    _, length, _ = HEAD.unpack_from(saved)
    text = json.dumps(header).encode()
    head = HEAD.pack(b"LWPROG1\n", len(text), zlib.crc32(text)) + text
    first = HEAD.size + length
    return head + bytes(-len(head) % 64) + saved[first + -first % 64 :]


def collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        places.append((value, key))
        if isinstance(inner, dict | list):
            collect(inner, places)


@pytest.mark.parametrize("text", ["(-1,)f4", "(99999999999,)f4", "f4,f4", "O", ">f4", "((", ""])
def test_dtypes_that_are_none_are_refused(saved: bytes, tmp_path: Path, text: str) -> None:
    header = header_of(saved)
    header["program"]["inputs"][0]["dtype"] = text
    (tmp_path / "p").write_bytes(with_header(saved, header))
    with pytest.raises(accel.ModelError, match="expected dtype"):
        accel.load_program(tmp_path / "p")
