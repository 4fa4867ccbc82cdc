"""`accel estimate` and `accel fpga` from the outside."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from accel.cli import main
from accel.demo import digits_model_path

DIGITS = str(digits_model_path())
KEYS = {"fps", "latency_ms", "utilisation", "bottleneck", "joules_per_image", "error_band"}
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["accel", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


def estimated(call: Call, *arguments: object) -> Any:
    code, out, err = call("estimate", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def weightless(tmp_path: Path) -> str:
    """A network whose weights are inputs, or made on the spot, with auto_pad and a free batch."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("ConstantOfShape", ["s"], ["v"]),
        helper.make_node("Conv", ["a", "v"], ["b"], auto_pad="SAME_UPPER"),
        helper.make_node("GlobalAveragePool", ["b"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 3, 3, 3]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 64, 64]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32, 1, 1])]
    shape = helper.make_tensor("s", TensorProto.INT64, [4], [32, 16, 3, 3])
    graph = helper.make_graph(nodes, "weightless", inputs, outputs, [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "weightless.onnx"
    onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize("ingest", ["pcie", "nic", "none"])
def test_estimate_gives_the_keys_and_sane_numbers(call: Call, weightless: str, ingest: str) -> None:
    found = estimated(call, weightless, "--ingest", ingest)
    assert set(found) >= KEYS
    latency = found["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert found["bottleneck"] == "engines"
    assert all(0 <= share <= 1 + 1e-9 for share in found["utilisation"].values())
    low, high = found["error_band"]
    assert low < found["fps"] < high


def test_engines_alone_are_the_upper_bound_and_scale_with_clock(call: Call) -> None:
    alone = estimated(call, DIGITS, "--ingest", "none")["fps"]
    slow = estimated(call, DIGITS, "--ingest", "none", "--clock-mhz", 150, "--engines", 3)["fps"]
    assert slow < 0.75 * alone
    for ingest in ("pcie", "nic"):
        assert 0.9 * alone < estimated(call, DIGITS, "--ingest", ingest)["fps"] <= alone * 1.001


def test_one_request_at_a_time_uses_one_engine(call: Call) -> None:
    one = estimated(call, DIGITS, "--streams", 1)
    many = estimated(call, DIGITS, "--streams", 8, "--queues", 2, "--batch", 2)
    assert one["fps"] < 0.25 * many["fps"]
    assert one["utilisation"]["engines"] < 0.2 < many["utilisation"]["engines"]
    assert one["latency_ms"]["p50"] < many["latency_ms"]["p50"]


def test_compare_sets_the_cpu_beside_both_ways(call: Call, weightless: str) -> None:
    paths = estimated(call, DIGITS, "--compare")["compare"]
    assert [path["name"] for path in paths] == ["cpu", "card over PCIe", "card over network"]
    assert 0 < paths[0]["decode_share"] < 1
    code, _, err = call("estimate", weightless, "--compare")
    assert code == 2 and "needs the weights in the file" in err


@pytest.fixture
def softmaxed(tmp_path: Path) -> str:
    """A convolution of free height and width, then operators that no engine has."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], auto_pad="SAME_LOWER"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Sigmoid", ["b"], ["c"]),
        helper.make_node("Softmax", ["c"], ["y"], axis=1),
    ]
    sides = ["N", 3, "H", "W"]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16, "H", "W"])]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [16, 3, 3, 3], [0.1] * 432)
    graph = helper.make_graph(nodes, "softmaxed", inputs, outputs, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "softmaxed.onnx"
    onnx.save(model, path)
    return str(path)


def test_what_the_engine_lacks_is_named_and_timed_on_the_host(call: Call, softmaxed: str) -> None:
    found = estimated(call, softmaxed, "--shape", "1,3,64,64")
    assert found["host_operators"] == {"Sigmoid": 1, "Softmax": 1}
    assert found["host_ms"] == pytest.approx(0.01)
    code, out, _ = call("estimate", softmaxed, "--shape", "x=1,3,64,64")
    assert code == 0
    assert "on the host, 0.010 ms an image: 1 x Sigmoid, 1 x Softmax" in out
    compared = estimated(call, softmaxed, "--shape", "1,3,64,64", "--compare")["compare"]
    assert [path["name"] for path in compared] == ["cpu", "card over PCIe", "card over network"]


def test_free_sizes_are_asked_for(call: Call, softmaxed: str) -> None:
    code, _, err = call("estimate", softmaxed)
    assert code == 2
    assert "give them, as --shape 1,3,224,224" in " ".join(err.split())
    for shape in ("1,3,a,4", "y=1,3,4,4", "", "1,3,0,4"):
        code, _, err = call("estimate", softmaxed, "--shape", shape)
        assert code == 2
        assert "cannot be read" in err
    small, large = (
        estimated(call, softmaxed, "--ingest", "none", "--shape", f"1,3,{n},{n}")["fps"]
        for n in (32, 256)
    )
    assert small > 1.3 * large


def test_boards_scale_images_on_their_own_processor(call: Call, softmaxed: str) -> None:
    for ingest in ("none", "pcie"):
        found = estimated(
            call, softmaxed, "--card", "zcu104", "--shape", "1,3,512,512", "--ingest", ingest
        )
        assert found["bottleneck"] == "host"
        assert found["fps"] == pytest.approx(68e6 / 512**2, rel=0.05)


def test_files_asked_for_are_written(call: Call, tmp_path: Path) -> None:
    plot, page, trace = (tmp_path / name for name in ("p.svg", "p.html", "t.json"))
    code, _, err = call("estimate", DIGITS, "--plot", plot, "--html", page, "--trace", trace)
    assert code == 0, err
    assert plot.stat().st_size > 10_000
    assert "<svg" in page.read_text("utf-8")
    assert len(json.loads(trace.read_text("utf-8"))["traceEvents"]) > 1000
    code, _, err = call("estimate", DIGITS, "--ingest", "none", "--trace", trace)
    assert code == 2
    assert "--trace shows a simulated run" in err


def test_faults_cost_time_and_the_same_seed_the_same(call: Call) -> None:
    plain = estimated(call, DIGITS)
    hung = [estimated(call, DIGITS, "--faults", "hang@1ms", "--seed", 3) for _ in range(2)]
    assert hung[0] == hung[1]
    assert hung[0]["fps"] < 0.1 * plain["fps"]
    code, _, err = call("estimate", DIGITS, "--faults", "hnag")
    assert code == 2
    assert "did you mean hang" in err


def test_campaign_of_faults_is_printed(call: Call) -> None:
    code, out, _ = call("fpga", "faults", "--fault", "F12,completion_lost", "--seeds", 2)
    assert code == 0
    assert "hang" in out
    assert "completion_lost" in out
    code, out, _ = call("fpga", "faults", "--fault", "hang", "--seeds", 2, "--json")
    (row,) = json.loads(out)
    assert (row["seeds"], row["lost"], row["card"] + row["cpu"]) == (2, 0, 16)
    assert call("fpga", "faults", "--seeds", 0)[0] == 2


def test_table_names_the_bottleneck(call: Call) -> None:
    code, out, _ = call("estimate", DIGITS)
    assert code == 0 and "engines (bottleneck)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--card", "alveo-u99"), "card 'alveo-u99' is not known"),
        (("--card", "nfp6000"), "only moves bytes"),
        (("--card", "kv260", "--ingest", "nic"), "no network port"),
        (("--ingest", "usb"), "--ingest 'usb' is not known"),
        (("--batch", 0), "batch is 0; expected 1 to 1024"),
        (("--streams", -1), "streams is -1"),
        (("--queues", 17), "queues is 17"),
        (("--clock-mhz", 0), "--clock-mhz is 0"),
        (("--clock-mhz", "nan"), "--clock-mhz is nan"),
        (("--engines", 65), "--engines is 65"),
        (("--batch", 1024, "--queues", 16, "--streams", 256), "bytes in flight"),
    ],
)
def test_bad_options_are_refused(call: Call, arguments: tuple[object, ...], message: str) -> None:
    code, _, err = call("estimate", DIGITS, *arguments)
    assert code == 2 and message in err


def moved(call: Call, *arguments: object) -> Any:
    code, out, err = call("fpga", "dma", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_dma_rates_meet_published_ones(call: Call) -> None:
    bridge = moved(call, "--card", "alveo-u250", "--bytes", 4096)
    assert bridge["throughput_GBps"] == pytest.approx(4.88, rel=0.2)
    xrt = moved(call, "--card", "alveo-u200", "--bytes", 1024, "--metric", "latency")
    assert xrt["latency_us"] == pytest.approx(14.94, rel=0.2)
    nfp = ("--card", "nfp6000", "--host", "snb", "--bytes", 1024, "--metric", "latency")
    assert moved(call, *nfp, "--direction", "both")["latency_us"] == pytest.approx(1.28, rel=0.08)


@pytest.mark.parametrize("card", ["alveo-u200", "nfp6000"])
def test_both_ways_at_once_are_no_faster_than_one(call: Call, card: str) -> None:
    rates = {
        way: moved(call, "--card", card, "--bytes", 1024, "--direction", way)["throughput_GBps"]
        for way in ("h2c", "c2h", "both")
    }
    assert rates["both"] <= min(rates["h2c"], rates["c2h"]) * 1.001


def test_iommu_slows_small_reads(call: Call) -> None:
    plain = ("--card", "nfp6000", "--bytes", 64)
    slow = moved(call, *plain, "--iommu")["throughput_GBps"]
    assert slow < 0.6 * moved(call, *plain)["throughput_GBps"]


def test_nic_rate_meets_the_published_one(call: Call) -> None:
    code, out, _ = call("fpga", "nic", "--payload", 256, "--json")
    assert code == 0
    assert json.loads(out)["throughput_Gbps"] == pytest.approx(79.504, rel=0.03)


def test_calibrate_refuses_tables_too_short_or_absent(call: Call, tmp_path: Path) -> None:
    lines = ["platform,layer,direction,transfer_bytes,throughput_GBps,latency_us,host_conf"]
    for name, layer in (("Alveo U200", "software"), ("NFP6000", "hardware")):
        for host in ("hsw", "snb"):
            lines += [f"{name},{layer},H2C,{2**n},{2**n / 1e6},,{host}" for n in range(10, 13)]
    table = tmp_path / "few.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    code, _, err = call("fpga", "calibrate", "--dma", table)
    assert code == 2 and "rows cannot determine" in err
    code, _, err = call("fpga", "calibrate")
    assert code == 2 and "nothing to fit to" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bytes", 0), "a transfer of 0 bytes"),
        (("--bytes", -5, "--card", "alveo-u250"), "a transfer of -5 bytes"),
        (("--bytes", 64, "--direction", "up"), "--direction 'up' is not known"),
        (("--bytes", 64, "--metric", "speed"), "--metric 'speed' is not known"),
        (("--bytes", 64, "--host", "hsw"), "give no --host with other cards"),
        (("--bytes", 64, "--host", "vax", "--card", "nfp6000"), "host 'vax' is not known"),
        (("--bytes", 64, "--iommu", "--card", "alveo-u250"), "no figures behind an IOMMU"),
        (
            ("--bytes", 64, "--card", "nfp6000", "--direction", "c2h", "--metric", "latency"),
            "a posted write has no latency",
        ),
    ],
)
def test_bad_transfers_are_refused(call: Call, arguments: tuple[object, ...], message: str) -> None:
    code, _, err = call("fpga", "dma", *arguments)
    assert code == 2 and message in err
