"""The memory plan as a picture: steps from left to right, bytes from bottom to top, inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from accel.stage import Life

WIDTH, HEIGHT, LEFT, BOTTOM = 960, 260, 70, 20
COLOURS = ("#1f6f8b", "#c9a227", "#7a4f9a", "#4a8f5c", "#b5523b", "#5f6b7a")


def memory_svg(lives: Sequence[Life]) -> str:
    """Return an inline SVG with one box for each buffer; titles tell the values it holds."""
    total = max((life.offset + life.nbytes for life in lives), default=1)
    steps = max((life.last for life in lives), default=0) + 2
    across, up = (WIDTH - LEFT) / steps, (HEIGHT - BOTTOM) / total
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" '
        'font-family="sans-serif" font-size="10" role="img" aria-label="memory plan">'
    ]
    for quarter in range(5):
        y = (HEIGHT - BOTTOM) * (1 - quarter / 4)
        label = f"{total * quarter / 4 / 1e6:.2f} MB"
        parts.append(f'<text x="{LEFT - 6}" y="{max(y, 8):.1f}" text-anchor="end">{label}</text>')
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH}" stroke="#e5e5e5"/>')
    for i, life in enumerate(sorted(lives, key=lambda held: held.first)):
        x = LEFT + (life.first + 1) * across
        y = HEIGHT - BOTTOM - (life.offset + life.nbytes) * up
        title = escape(f"{life.node}: {life.nbytes / 1e3:,.1f} KB, steps {life.first}-{life.last}")
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{(life.last - life.first + 1) * across:.1f}" '
            f'height="{max(life.nbytes * up, 0.5):.1f}" fill="{COLOURS[i % len(COLOURS)]}" '
            f'fill-opacity="0.8" stroke="white" stroke-width="0.5"><title>{title}</title></rect>'
        )
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 4}">first step</text>')
    parts.append(f'<text x="{WIDTH}" y="{HEIGHT - 4}" text-anchor="end">last step</text>')
    return "\n".join([*parts, "</svg>"])
