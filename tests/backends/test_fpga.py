"""The `fpga` device: the values of `cpu`, bit for bit, and simulated times that make sense."""

from __future__ import annotations

import json
import threading
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import accel
from accel.backends.fpga import FpgaJob, FpgaProgram
from accel.demo import digits_model_path
from accel.errors import CardError, DeviceError, InputError, ModelError
from accel.fpga import Fault, Rule, send


@pytest.fixture(scope="module")
def digits() -> accel.Model:
    return accel.load(digits_model_path()).quantize()


def compile_on_card(model: accel.Model, batch_size: int = 1, **options: Any) -> FpgaProgram:
    program = accel.device("fpga", **options).compile(model, batch_size=batch_size)
    assert isinstance(program, FpgaProgram)
    return program


def submit(program: FpgaProgram, x: np.ndarray[Any, Any]) -> FpgaJob:
    job = program.submit(x)
    assert isinstance(job, FpgaJob)
    return job


def images(rng: np.random.Generator, rows: int) -> np.ndarray[Any, Any]:
    return rng.random((rows, 1, 32, 32), dtype=np.float32)


def same(a: object, b: object) -> bool:
    """Tell whether two results are one array each and equal bit for bit."""
    assert isinstance(a, np.ndarray)
    assert isinstance(b, np.ndarray)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize(("rows", "batch_size"), [(1, 1), (4, 4), (1, 4), (13, 4), (9, 1)])
def test_values_are_those_of_cpu(
    digits: accel.Model, rng: np.random.Generator, rows: int, batch_size: int
) -> None:
    x = images(rng, rows)
    expected = accel.device("cpu").compile(digits, batch_size=batch_size).run(x)
    program = accel.device("fpga").compile(digits, batch_size=batch_size)
    assert same(program.run(x), expected)
    assert same(program.submit(x).result(), expected)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet20_cifar10", (32, 32)), ("vww_mobilenet_v1_0.25_96", (96, 96))]
)
@pytest.mark.parametrize("card", ["alveo-u50", "zcu102", "alveo-u250"])
def test_values_of_trained_models_are_those_of_cpu(
    shared: Path, rng: np.random.Generator, name: str, size: tuple[int, int], card: str
) -> None:
    model = accel.load(shared / "data/models" / f"{name}.onnx").quantize()
    program = accel.device("fpga", card=card).compile(model, batch_size=2)
    x = rng.random((3, 3, *size), dtype=np.float32)
    expected = accel.device("cpu").compile(model, batch_size=2).run(x)
    assert same(program.run(x), expected)


def test_job_tells_simulated_time_and_how_it_ended(
    digits: accel.Model, rng: np.random.Generator
) -> None:
    job = submit(compile_on_card(digits), images(rng, 3))
    assert job.simulated_ns is None
    while not job.done():
        pass
    assert job.simulated_ns is not None
    assert 100_000 < job.simulated_ns < 5_000_000
    assert job.outcomes == ("card",) * 3
    assert isinstance(job.result(), np.ndarray)


def test_simulated_time_is_the_same_in_every_run(
    digits: accel.Model, rng: np.random.Generator
) -> None:
    x = images(rng, 10)

    def simulated() -> int | None:
        job = accel.device("fpga").compile(digits, batch_size=2).submit(x)
        job.result()
        return job.simulated_ns

    first = simulated()
    assert first is not None
    assert first == simulated()


def test_engines_work_side_by_side(digits: accel.Model, rng: np.random.Generator) -> None:
    """Six images on six engines take little more than one."""

    def simulated_ns(rows: int) -> int:
        job = accel.device("fpga", card="alveo-u50").compile(digits).submit(images(rng, rows))
        job.result()
        assert job.simulated_ns is not None
        return job.simulated_ns

    one, six, twelve = simulated_ns(1), simulated_ns(6), simulated_ns(12)
    assert one < six < 1.2 * one
    assert 1.8 * one < twelve < 2.2 * one


def test_explain_names_cycles_and_the_share_is_that_of_cpu(digits: accel.Model) -> None:
    explanation = accel.device("fpga", card="zcu104").compile(digits).explain()
    assert explanation.share == accel.device("cpu").compile(digits).explain().share
    assert explanation.device == "fpga:0"
    text = str(explanation)
    assert "card zcu104: 10 layers" in text
    assert "384 cycles" in text  # stem: 32 rows x 4 columns of 8 pixels x 3 rows of the kernel
    assert "int8 8x16x16" in text


def test_what_the_engine_lacks_is_timed_on_the_host(shared: Path) -> None:
    model = accel.load(shared / "data/models/st_ssd_mobilenet_v1_0.25_256.onnx").quantize()
    program = accel.device("fpga").compile(model)
    rows = {row.op: row for row in program.explain().rows}
    assert rows["Resize"].note == "beside the array, value by ONNX Runtime"
    assert rows["Concat+Softmax"].note == "on the host, 5.0 us"
    assert "the engine lacks some operators: the host adds" in str(program.explain())


def test_network_without_a_layer_for_the_engine_runs_on_the_host(
    shared: Path, rng: np.random.Generator
) -> None:
    model = accel.load(shared / "data/models/text_classification.onnx").quantize()
    program = compile_on_card(model, card="alveo-u250")  # its engine has no dense layers
    assert "its engine runs none of this network's layers" in str(program.explain())
    x = rng.integers(0, 10000, (2, 256)).astype(np.float32)
    job = submit(program, x)
    assert same(job.result(), accel.device("cpu").compile(model).run(x))
    assert job.outcomes == ("card", "card")


def test_stats_and_trace_show_the_work(
    digits: accel.Model, rng: np.random.Generator, tmp_path: Path
) -> None:
    program = compile_on_card(digits, batch_size=4)
    program.run(images(rng, 24))
    stats = program.stats()
    assert stats["card"]["images"] == 24
    assert stats["card"]["h2c_bytes"] == 24 * 4096
    assert 0.5 < stats["engine 0"]["utilisation"] <= 1.0
    assert stats["pcie down"]["utilisation"] < 0.1
    program.save_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    tracks = {e["args"]["name"] for e in events if e["ph"] == "M"}
    assert {"engine 5", "pcie up", "pcie down", "host thread 0", "queue 0"} <= tracks
    assert sum(e["ph"] == "s" for e in events) == sum(e["ph"] == "f" for e in events) == 6


def test_two_programs_share_one_card(digits: accel.Model, rng: np.random.Generator) -> None:
    device = accel.device("fpga")
    one, four = device.compile(digits), device.compile(digits, batch_size=4)
    x = images(rng, 8)
    jobs = [one.submit(x), four.submit(x)]
    first, second = (job.result() for job in jobs)
    assert same(first, second)


def test_threads_may_use_one_program(digits: accel.Model, rng: np.random.Generator) -> None:
    x = images(rng, 6)
    program = accel.device("fpga").compile(digits)
    expected = program.run(x)
    agree: list[bool] = []
    threads = [
        threading.Thread(target=lambda: agree.append(same(program.run(x), expected)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agree == [True] * 4


def test_result_of_a_failed_card_is_the_cpus_and_says_so(
    digits: accel.Model, rng: np.random.Generator
) -> None:
    x = images(rng, 2)
    program = compile_on_card(digits, batch_size=2, faults=[Rule(Fault.HANG, rate=1.0)])
    job = submit(program, x)
    with pytest.warns(RuntimeWarning, match="was computed on the CPU after poll, poll, abort"):
        result = job.result()
    assert job.outcomes == ("cpu",)
    assert same(result, accel.device("cpu").compile(digits, batch_size=2).run(x))


def test_without_fallback_a_failed_card_is_an_error(
    digits: accel.Model, rng: np.random.Generator
) -> None:
    device = accel.device("fpga", faults=[Rule(Fault.HANG, rate=1.0)], fallback=False)
    job = device.compile(digits).submit(images(rng, 1))
    with pytest.raises(CardError, match="request 0 failed after"):
        job.result()
    assert job.done()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_images_from_the_network_give_the_bits_of_cpu(
    digits: accel.Model, rng: np.random.Generator, transport: Literal["tcp", "udp"]
) -> None:
    x = images(rng, 6)
    expected = accel.device("cpu").compile(digits).run(x)
    assert isinstance(expected, np.ndarray)
    program = compile_on_card(digits, batch_size=2)
    frames = [(f"{i}.raw", row.tobytes()) for i, row in enumerate(x)]
    with program.listen(transport) as service:
        sender = threading.Thread(target=send, args=(service.address, frames, transport))
        sender.start()
        found = list(islice(service.results(timeout=5), len(frames)))
        sender.join()
    (output,) = program.outputs
    for result, row in zip(found, expected, strict=True):
        assert result.outcome == "card"
        assert same(result.outputs[output.name], row)
    assert program.stats()["card"]["h2c_bytes"] == 0


def test_faults_are_counted_in_the_statistics(
    digits: accel.Model, rng: np.random.Generator
) -> None:
    program = compile_on_card(digits, faults="completion_lost@0,hang@1")
    program.run(images(rng, 4))
    stats = program.stats()
    assert stats["faults"] == {"completion_lost": 1, "hang": 1}
    assert stats["driver"]["replay"] >= 2
    assert {"poll", "abort", "reset"} <= set(stats["driver"])
    with pytest.raises(InputError, match="did you mean hang"):
        accel.device("fpga", faults="hnag")


def test_float_model_is_refused() -> None:
    with pytest.raises(ModelError, match="quantize"):
        accel.device("fpga").compile(accel.load(digits_model_path()))


def test_unknown_card_and_card_without_engine_are_refused() -> None:
    with pytest.raises(CardError, match="known cards: alveo-u200"):
        accel.device("fpga", card="alveo-u7")
    with pytest.raises(DeviceError, match="only moves bytes"):
        accel.device("fpga", card="nfp6000")
    with pytest.raises(InputError, match="power of two"):
        accel.device("fpga", ring_size=100)
    with pytest.raises(DeviceError, match="does not take"):
        accel.device("fpga", colour="red")
