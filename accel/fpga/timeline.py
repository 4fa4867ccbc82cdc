"""What a card did, as a picture: one row a track, one box a piece of work, inline SVG."""

from __future__ import annotations

from html import escape

from accel.fpga.clock import PS_PER_NS
from accel.fpga.trace import Mark, Trace

WIDTH, LEFT, ROW, TOP = 960, 110, 18, 24
MAX_BOXES = 4000
COLOURS = ("#1f6f8b", "#c9a227", "#7a4f9a", "#4a8f5c", "#b5523b", "#5f6b7a")
TICKS = 6


def timeline_svg(trace: Trace, start_ps: int = 0, end_ps: int | None = None) -> str:
    """Return an inline SVG of the work between two moments; titles tell each box.

    Boxes beyond 4000, the shortest, are left out, and the picture says so.
    """
    marks = [m for m in trace.marks if m.end_ps >= start_ps and m.track != "card"]
    if end_ps is None:
        end_ps = max((m.end_ps for m in marks), default=start_ps + 1)
    marks = [m for m in marks if m.start_ps <= end_ps]
    span = max(1, end_ps - start_ps)
    tracks = [t for t in trace.tracks() if any(m.track == t for m in marks)]
    rows = {track: index for index, track in enumerate(sorted(tracks, key=_order))}
    kept = sorted(marks, key=lambda m: m.start_ps - m.end_ps)[:MAX_BOXES]
    height = TOP + ROW * len(rows) + 22
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="100%" '
        f'font-family="sans-serif" font-size="10" role="img" '
        f'aria-label="timeline of {escape(trace.title)}">'
    ]
    parts += _axis(span, height)
    for track, index in rows.items():
        y = TOP + ROW * index
        parts.append(f'<text x="{LEFT - 6}" y="{y + 12}" text-anchor="end">{escape(track)}</text>')
        parts.append(f'<path d="M{LEFT} {y + ROW - 1}H{WIDTH}" stroke="#e5e5e5"/>')
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(_kinds(kept))}
    parts += [_box(m, rows[m.track], start_ps, span, colours[_kind(m)]) for m in kept]
    if len(kept) < len(marks):
        left_out = f"{len(marks) - len(kept)} shortest of {len(marks)} left out"
        parts.append(f'<text x="{WIDTH}" y="{height - 4}" text-anchor="end">{left_out}</text>')
    return "\n".join([*parts, "</svg>"])


def _order(track: str) -> tuple[int, str]:
    """Hosts first, then the way of an image through the card."""
    way = ("host", "queue", "pcie down", "dma in", "nic in", "engine", "card memory", "dma out",
           "pcie up", "nic out")  # fmt: skip
    place = next((i for i, name in enumerate(way) if track.startswith(name)), len(way))
    return place, track


def _axis(span: int, height: int) -> list[str]:
    parts = []
    for tick in range(TICKS + 1):
        x = LEFT + (WIDTH - LEFT) * tick / TICKS
        anchor = "end" if tick == TICKS else "middle"
        label = f"{span * tick / TICKS / (1000 * PS_PER_NS):.4g} us"
        parts.append(f'<text x="{x:.1f}" y="12" text-anchor="{anchor}">{label}</text>')
        parts.append(f'<path d="M{x:.1f} 16V{height - 16}" stroke="#e5e5e5"/>')
    return parts


def _kind(mark: Mark) -> str:
    """What the work is, without the number of its request."""
    return mark.name.split(" ")[0]


def _kinds(marks: list[Mark]) -> list[str]:
    return sorted({_kind(mark) for mark in marks})


def _box(mark: Mark, row: int, start_ps: int, span: int, colour: str) -> str:
    scale = (WIDTH - LEFT) / span
    x = LEFT + max(0, mark.start_ps - start_ps) * scale
    width = max(0.6, (mark.end_ps - max(mark.start_ps, start_ps)) * scale)
    took = (mark.end_ps - mark.start_ps) / (1000 * PS_PER_NS)
    title = escape(f"{mark.name}: {took:.4g} us")
    return (
        f'<rect x="{x:.2f}" y="{TOP + ROW * row + 3}" width="{min(width, WIDTH - x):.2f}" '
        f'height="{ROW - 6}" fill="{colour}"><title>{title}</title></rect>'
    )
