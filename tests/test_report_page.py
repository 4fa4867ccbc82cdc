"""The report's page: everything measured is on it, nothing else is loaded."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

import accel
from accel.cli import app
from accel.demo import digits_model
from accel.report import Survey, report_page, survey

VOID = {"meta", "rect", "path", "br"}


class Balanced(HTMLParser):
    """Fails where a tag is closed that was not opened last."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def found() -> Survey:
    return survey(digits_model(), ["cpu", "fpga", "auto"], repeats=2)


def test_survey_has_every_device_layer_and_buffer(found: Survey) -> None:
    names = [d.name for d in found.devices]
    assert names == ["onnxruntime, fp32", "cpu", "fpga", "auto"]
    assert all(d.ms is not None and d.ms > 0 for d in found.devices)
    exact, cpu, card, _ = (d.error for d in found.devices)
    assert exact == 0 and cpu is not None and 0 < cpu < 0.1 and card == cpu
    assert found.devices[2].note == "simulated" and found.devices[3].note.startswith("auto (")
    own = [row for row in found.explanation.rows if row.own and row.macs]
    assert [x.node for x in found.layers] == [row.node for row in own]
    assert all(x.error is not None and 0 < x.error < 0.2 and x.seconds for x in found.layers)
    assert len(found.lives) > len(own)


def test_page_is_balanced_and_needs_no_other_file(found: Survey) -> None:
    page = report_page(found, card="<section>the card</section>")
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert parser.seen.count("svg") == 1 and parser.seen.count("rect") == len(found.lives)
    assert not re.search(r"""(src|href)=|@import|url\(""", page)
    assert all(layer.node in page for layer in found.layers) and "the card" in page


def test_names_from_a_model_cannot_become_markup(found: Survey) -> None:
    graph = digits_model().graph()
    graph.graph[0].name = "<script>alert(1)</script>"
    page = report_page(survey(accel.Model.from_graph(graph, "<b>"), [], repeats=1))
    assert "<script" not in page and "<b>" not in page


def test_a_device_that_refuses_is_told_with_its_reason() -> None:
    refused = survey(digits_model(), ["nothing"], repeats=1).devices[1]
    assert refused.ms is None and "not found" in refused.note


def test_an_int8_model_is_shown_without_errors() -> None:
    found = survey(digits_model().quantize(), ["cpu"], repeats=1)
    assert [d.name for d in found.devices] == ["cpu"]
    assert all(x.error is None for x in found.layers)
    assert "digits" in report_page(found)


def test_command_writes_a_page_that_a_browser_shows(tmp_path: Path) -> None:
    digits_model().save(tmp_path / "digits.onnx")
    page = tmp_path / "report.html"
    arguments = ["report", str(tmp_path / "digits.onnx"), "-o", str(page), "--backends", "cpu,fpga"]
    assert CliRunner().invoke(app, [*arguments, "--repeats", "1"]).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "On a simulated alveo-u50" in text and text.count("<svg") == 2
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("hardware: no chromium on this machine")
    picture = tmp_path / "report.png"
    shown = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1060,900",
         f"--screenshot={picture}", page.as_uri()],
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert picture.stat().st_size > 20_000  # an empty page has a tenth of it
