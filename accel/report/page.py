"""The page of a report: plain HTML with its pictures inside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from accel.report.memory import memory_svg
from accel.report.survey import LayerError, Survey

STYLE = """
body { font: 14px sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 600 }
td, th { padding: .15em .8em .15em 0; border-bottom: 1px solid #eee; vertical-align: top }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
td.bar { width: 22% } .track { background: #f0f0f0; height: 11px; margin-top: 3px }
.time { background: #1f6f8b; height: 11px } .error { background: #b5523b; height: 11px }
.device { background: #4a8f5c; height: 11px } p.note { color: #666 }
"""


def report_page(found: Survey, card: str = "", card_style: str = "") -> str:
    """Return the page.

    Parameters
    ----------
    card : a section on a simulated card, HTML that is put in as it is; card_style : its CSS.
    """
    told = found.explanation
    fp32, int8 = found.model_bytes
    title = f"{told.model}: int8 with local windows"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Batch {told.batch_size}, {told.threads} thread(s). {told.share:.1%} of the "
        "multiplications of Conv, Gemm and MatMul run in own int8 code. Model "
        f"{fp32 / 1e6:.2f} MB in fp32, {int8 / 1e6:.2f} MB in int8.</p>",
        *(f'<p class="note">{escape(note)}</p>' for note in told.notes),
        "<h2>Devices</h2>",
        _devices(found),
        "<h2>Layers</h2>",
        '<p class="note">Time on <code>cpu</code>, and the error of each output against fp32, with '
        "all errors of the layers before it: norm of the difference over the norm.</p>",
        _layers(found.layers),
        "<h2>Memory plan</h2>",
        '<p class="note">Every box is a buffer; those that never live at once share a place.</p>',
        memory_svg(found.lives),
        card,
    ]
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{STYLE}{card_style}</style></head><body>\n{body}\n</body></html>\n"
    )


def _devices(found: Survey) -> str:
    longest = max((d.ms for d in found.devices if d.ms is not None), default=1.0)
    rows = [
        (
            escape(d.name),
            "" if d.ms is None else f"{d.ms:.3f}",
            _bar("device", 0 if d.ms is None else d.ms / longest),
            "" if d.error is None else f"{d.error:.2%}",
            escape(d.note),
        )
        for d in found.devices
    ]
    return _table(("device", "ms a batch", "", "error to fp32", ""), rows, (1, 3), (2,))


def _layers(layers: Sequence[LayerError]) -> str:
    slowest = max((x.seconds or 0.0 for x in layers), default=0.0) or 1.0
    worst = max((x.error or 0.0 for x in layers), default=0.0) or 1.0
    rows = [
        (
            escape(x.node),
            escape(x.op),
            f"{x.macs / 1e6:.2f}",
            str(x.window or ""),
            "" if x.seconds is None else f"{x.seconds * 1e6:.1f}",
            _bar("time", (x.seconds or 0.0) / slowest),
            "" if x.peak is None else f"{x.peak:.0%}",
            "" if x.error is None else f"{x.error:.2%}",
            _bar("error", (x.error or 0.0) / worst),
        )
        for x in layers
    ]
    head = ("layer", "operator", "MMAC", "window", "us", "", "of peak", "error", "")
    return _table(head, rows, (2, 3, 4, 6, 7), (5, 8))


def _table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[int],
    bars: Sequence[int],
) -> str:
    kinds = ["number" if i in numbers else "bar" if i in bars else "" for i in range(len(head))]
    lines = ["".join(f'<th class="{k}">{h}</th>' for k, h in zip(kinds, head, strict=True))]
    lines += [
        "".join(f'<td class="{k}">{cell}</td>' for k, cell in zip(kinds, row, strict=True))
        for row in rows
    ]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _bar(kind: str, share: float) -> str:
    return f'<div class="track"><div class="{kind}" style="width:{share:.1%}"></div></div>'
