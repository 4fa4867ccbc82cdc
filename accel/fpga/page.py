"""The card's part of a report: what it would give, how busy it is, and its timeline, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from accel.fpga.card import Card
from accel.fpga.clock import PS_PER_S
from accel.fpga.estimate import Estimate
from accel.fpga.report import Path
from accel.fpga.timeline import timeline_svg

SHOWN_REQUESTS = 4
PAGE_STYLE = "body { font: 14px sans-serif; max-width: 1000px; margin: 2em auto; color: #222 }"
CARD_STYLE = """
.card table { border-collapse: collapse } .card td, .card th { padding: .2em .8em .2em 0 }
.card td.number { text-align: right } .card .bar { background: #1f6f8b; height: 10px }
.card .track { width: 300px; background: #eee }
"""


def card_section(title: str, found: Estimate, card: Card | None, paths: Sequence[Path] = ()) -> str:
    """Return a <section>: summary, utilisation, comparison, and the timeline of a traced run."""
    low, high = found.error_band
    latency = ", ".join(f"{name} {ms:.3f} ms" for name, ms in found.latency_ms.items())
    parts = [
        f"<h2>{escape(title)}</h2>",
        f"<p><b>{found.fps:,.1f} images/s</b> ({low:,.1f} to {high:,.1f}); latency {latency}; "
        f"{found.joules_per_image * 1e3:.1f} mJ an image. Simulated from published figures.</p>",
    ]
    if found.host_operators:
        names = ", ".join(f"{n} x {escape(op)}" for op, n in found.host_operators.items())
        parts.append(f"<p>On the host, {found.host_ms:.3f} ms an image: {names}.</p>")
    parts.append(_utilisation(found))
    if paths:
        parts.append(_comparison(paths))
    if card is not None and card.trace.marks:
        start, end = _window(card)
        parts.append(f"<h3>The first requests on {escape(card.profile.name)}</h3>")
        parts.append(timeline_svg(card.trace, start, end))
    return '<section class="card">\n' + "\n".join(parts) + "\n</section>"


def card_page(title: str, found: Estimate, card: Card | None, paths: Sequence[Path] = ()) -> str:
    """Return the section as a page of its own; it needs no other file."""
    section = card_section(title, found, card, paths)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{PAGE_STYLE}{CARD_STYLE}</style></head><body>\n{section}\n</body></html>\n"
    )


def _utilisation(found: Estimate) -> str:
    rows = []
    for name, share in sorted(found.utilisation.items(), key=lambda item: -item[1]):
        mark = " (bottleneck)" if name == found.bottleneck else ""
        bar = f'<div class="track"><div class="bar" style="width:{min(share, 1):.1%}"></div></div>'
        rows.append(
            f'<tr><td>{escape(name + mark)}</td><td class="number">{share:.1%}</td>'
            f"<td>{bar}</td></tr>"
        )
    return "<table><tr><th>component</th><th>busy</th><th></th></tr>" + "".join(rows) + "</table>"


def _comparison(paths: Sequence[Path]) -> str:
    rows = [
        f'<tr><td>{escape(path.name)}</td><td class="number">{path.images_per_s:,.1f}</td>'
        f'<td>{escape(path.bottleneck)}</td><td class="number">{path.decode_share:.0%}</td></tr>'
        for path in paths
    ]
    head = "<tr><th>path</th><th>images/s</th><th>limited by</th><th>decode</th></tr>"
    return "<table>" + head + "".join(rows) + "</table>"


def _window(card: Card) -> tuple[int, int]:
    """From the first request to the end of a few that go through every engine."""
    ends = sorted(mark.end_ps for mark in card.trace.requests)
    engines = 1 if card.scheduler is None else len(card.scheduler.engines)
    if not ends:
        return card.ready_ps, min(card.now_ps, card.ready_ps + PS_PER_S)
    return card.ready_ps, ends[min(len(ends), SHOWN_REQUESTS * engines) - 1]
