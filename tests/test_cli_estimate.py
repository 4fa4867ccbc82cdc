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
