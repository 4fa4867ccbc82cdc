"""Pictures of a run: the timeline, the page around it, the plots."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from accel.errors import InputError
from accel.fpga import Card, Trace, load_profile, topology
from accel.fpga.estimate import Estimate, simulate
from accel.fpga.job import Job
from accel.fpga.page import card_page
from accel.fpga.plot import save_plot
from accel.fpga.report import compare_job
from accel.fpga.timeline import MAX_BOXES, timeline_svg

SVG = "{http://www.w3.org/2000/svg}"
JOB = Job("net <1>", topology("squeezenet"), 227 * 227 * 3, 1000, 227 * 227,
          Counter({"Softmax": 2}), 1e-5)  # fmt: skip


@pytest.fixture(scope="module")
def run() -> tuple[Estimate, Card]:
    found, card = simulate(JOB, load_profile("alveo-u50"), trace=True)
    assert card is not None
    return found, card


def boxes(svg: str) -> list[tuple[float, float, str]]:
    """x, width and title of every box; fails where the text is not well-formed."""
    return [
        (float(r.get("x", "")), float(r.get("width", "")), r.findtext(f"{SVG}title") or "")
        for r in ET.fromstring(svg).iter(f"{SVG}rect")
    ]


def test_timeline_places_each_piece_of_work_by_its_time() -> None:
    trace = Trace()
    trace.span("host thread 0", "a", 0, 250_000)
    trace.span("engine 0", "b<c", 500_000, 1_000_000)
    trace.span("engine 0", "late", 5_000_000, 6_000_000)
    svg = timeline_svg(trace, 0, 1_000_000)
    found = boxes(svg)
    assert [title for _, _, title in found] == ["b<c: 0.5 us", "a: 0.25 us"]
    (x_b, width_b, _), (x_a, width_a, _) = found
    assert width_b == pytest.approx(2 * width_a, rel=0.01)
    assert x_b == pytest.approx(x_a + 2 * width_a, rel=0.01)
    texts = [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert texts[-2:] == ["host thread 0", "engine 0"]


def test_timeline_leaves_out_the_shortest_and_says_so() -> None:
    trace = Trace()
    for i in range(MAX_BOXES + 5):
        trace.span("engine 0", f"n{i}", 1000 * i, 1000 * i + 1 + i % 7)
    svg = timeline_svg(trace)
    assert len(boxes(svg)) == MAX_BOXES
    assert f"5 shortest of {MAX_BOXES + 5} left out" in svg


def test_page_shows_utilisation_comparison_and_timeline(run: tuple[Estimate, Card]) -> None:
    found, card = run
    paths = compare_job(JOB.layers, card.profile, JOB.input_bytes, 1e-3, 1e-2, 2)
    page = card_page("net <1> on a card", found, card, paths)
    for text in (
        "net &lt;1&gt; on a card",
        "engines (bottleneck)",
        "card over PCIe",
        "2 x Softmax",
    ):
        assert text in page
    svg = page[page.index("<svg") : page.index("</svg>") + 6]
    titles = Counter(title.split(":")[0] for _, _, title in boxes(svg))
    assert titles["net <1>"] > card.profile.value("engine.count")
    assert "submit 0" in titles
    assert "<svg" not in card_page("alone", found, None)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plot_is_written_in_the_form_of_its_ending(
    run: tuple[Estimate, Card], tmp_path: Path, ending: str
) -> None:
    found, card = run
    path = tmp_path / f"plot.{ending}"
    save_plot(path, "net", JOB.layers, card.profile, found)
    data = path.read_bytes()
    if ending == "png":
        assert data.startswith(b"\x89PNG")
    else:
        assert ET.fromstring(data).tag == f"{SVG}svg"
    assert len(data) > 10_000


def test_plot_of_an_unknown_ending_is_refused(run: tuple[Estimate, Card], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected an ending of .png, .svg, .pdf"):
        save_plot(tmp_path / "plot.gif", "net", JOB.layers, run[1].profile, run[0])
    assert not list(tmp_path.iterdir())
