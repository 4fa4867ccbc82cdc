"""Calibration: the fit finds known numbers again, and the profiles hold what the tables give."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel.errors import InputError
from accel.fpga import load_profile
from accel.fpga.calibrate import PARAMETERS, compare_nic, fit_engines, fit_link
from accel.fpga.link import LinkSpec
from accel.fpga.predict import predict
from accel.fpga.topologies import topology
from accel.fpga.transfer import bridge_curve, hardware_curve, read_latency, software_curve

CARD_OF = {"dpucahx8h": "alveo-u50", "dpuczdx8g": "zcu102", "xdnn": "alveo-u250"}
RMS = {"dpucahx8h": 0.02, "dpuczdx8g": 0.05, "xdnn": 0.025}
LINK_RMS = {"alveo-u200": 0.06, "alveo-u250": 0.085, "nfp6000": 0.06, "nfp6000-snb": 0.06}


def test_fit_finds_the_parameters_a_table_was_made_with(tmp_path: Path) -> None:
    true = {"engine.efficiency": 0.8, "engine.bandwidth": 9e9, "engine.layer_overhead": 1400.0}
    card = (
        load_profile("alveo-u250")
        .with_values(**{k.replace(".", "__"): v for k, v in true.items()})
        .with_values(engine__count=1)
    )
    lines = ["card,n_engines,clock_MHz,model,fps"]
    for name in ("inception_v1", "inception_v4", "resnet50_v1", "vgg16", "squeezenet", "vgg19"):
        layers = topology("resnet50" if name == "resnet50_v1" else name)
        lines.append(f"Alveo U200/U250,1,700,{name},{predict(layers, card).images_per_s!r}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    found = fit_engines(table, "xdnn")
    assert found.values == pytest.approx(true, rel=0.02)
    assert found.error < 1e-3
    assert all(abs(row.left_out_error) < 0.05 for row in found.rows)
    assert "rms error 0.0%" in str(found)
    assert "left out: mean 0.0%" in str(found)


@pytest.mark.parametrize("family", sorted(PARAMETERS))
def test_engine_profiles_hold_what_the_table_gives(shared: Path, family: str) -> None:
    found = fit_engines(shared / "calibration/accelerators.csv", family)
    assert found.error < RMS[family]
    profile = load_profile(CARD_OF[family])
    for key, value in found.values.items():
        assert profile[key].status == "fitted", key
        if key != "engine.spill":  # hardly matters beside the weights: the fit leaves it free
            assert profile.value(key) == pytest.approx(value, rel=0.05), key
    assert profile.value("engine.error") == pytest.approx(found.unseen_error, abs=0.005)


@pytest.mark.parametrize("card", sorted(LINK_RMS))
def test_link_profiles_hold_what_the_table_gives(shared: Path, card: str) -> None:
    found = fit_link(shared / "calibration/dma.csv", card, leave_out=False)
    assert found.error < LINK_RMS[card]
    for key, value in found.values.items():
        assert load_profile(card)[key].status == "fitted", key
        assert load_profile(card).value(key) == pytest.approx(value, rel=0.1), key
    assert found.mean_error < 0.08
    assert abs(found.worst.error) < 0.2 or found.worst.name.split()[1] in ("8", "16", "32", "64")


def test_port_meets_its_rows_without_a_fit(shared: Path) -> None:
    found = compare_nic(shared / "calibration/nic.csv")
    assert len(found.rows) == 8
    assert found.values == {}
    assert abs(found.worst.error) < 0.03
    assert "nothing is fitted" in str(found)
    assert "left out" not in str(found)


def test_bad_tables_and_families_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="family 'gpu' is not known"):
        fit_engines(tmp_path / "none.csv", "gpu")
    with pytest.raises(InputError, match="cannot read calibration table"):
        fit_engines(tmp_path / "none.csv", "xdnn")
    (tmp_path / "short.csv").write_text("card,model\nU50,vgg16\n", encoding="utf-8")
    with pytest.raises(InputError, match="lacks the columns n_engines, clock_MHz, fps"):
        fit_engines(tmp_path / "short.csv", "xdnn")
    (tmp_path / "few.csv").write_text(
        "card,n_engines,clock_MHz,model,fps\nU50,6,300,vgg16,161\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match="1 rows cannot determine 5 parameters"):
        fit_engines(tmp_path / "few.csv", "dpucahx8h")
    (tmp_path / "odd.csv").write_text(
        "card,n_engines,clock_MHz,model,fps\nU50,6,300,alexnet,161\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match="no topology for the network 'alexnet'"):
        fit_engines(tmp_path / "odd.csv", "dpucahx8h")
    with pytest.raises(InputError, match="no link rows for 'kv260'"):
        fit_link(tmp_path / "none.csv", "kv260")


def test_curves_rise_with_size_to_the_link() -> None:
    sizes = [64, 1024, 16384, 2**20, 2**28]
    for direction, top in (("h2c", 7.4e9), ("c2h", 12.1e9)):
        curve = software_curve(load_profile("alveo-u200"), direction, sizes)  # type: ignore[arg-type]
        rates = [point.bytes_per_s for point in curve]
        assert rates == sorted(rates)
        assert rates[-1] == pytest.approx(top, rel=0.05)
        assert curve[0].seconds == pytest.approx(13.3e-6, rel=0.1)


def test_one_direction_of_two_is_never_faster_than_one_alone() -> None:
    card = load_profile("nfp6000")
    for size in (16, 64, 256, 1024, 4096):
        both = hardware_curve(card, "bidir", [size])[0].bytes_per_s
        alone = [hardware_curve(card, way, [size])[0].bytes_per_s for way in ("h2c", "c2h")]
        assert both <= min(alone) * 1.001


def test_read_latency_grows_by_both_hops() -> None:
    card = load_profile("nfp6000")
    slope = (read_latency(card, 2048) - read_latency(card, 1024)) / 1024
    assert 1 / slope < 7.24e9
    with pytest.raises(InputError, match="a transfer of 0 bytes"):
        read_latency(card, 0)


def test_bridge_falls_beyond_the_reach_of_the_translation_first_both_ways() -> None:
    def rate(direction: str, mebibytes: int) -> float:
        card = load_profile("alveo-u250")
        return bridge_curve(card, direction, [mebibytes << 20])[0].bytes_per_s  # type: ignore[arg-type]

    assert rate("h2c", 16) > rate("h2c", 4) > 1.05 * rate("h2c", 32)
    assert rate("bidir", 8) > rate("bidir", 4) > 1.1 * rate("bidir", 16)
    assert rate("bidir", 4) <= rate("h2c", 4)


def test_directions_keep_the_whole_wire_until_both_are_busy() -> None:
    spec = LinkSpec.from_profile(load_profile("nfp6000"))
    assert spec.wire_bandwidth / 1e9 == pytest.approx(7.877, rel=0.003)  # Gen3 x8 after 128b/130b
    assert spec.tlp_bandwidth / 1e9 == pytest.approx(7.24, rel=0.002)  # the source's own figure
    wide = LinkSpec.from_profile(load_profile("alveo-u200"))
    assert wide.wire_bandwidth / 1e9 == pytest.approx(15.75, rel=0.003)  # Gen3 x16
