"""Bar charts as SVG: one bar for each tool, groups below each other, seconds on a log scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from attrs import frozen

WIDTH: Final = 760
LABEL: Final = 110
"""Pixels for the names on the left."""

VALUE: Final = 150
"""Pixels for the numbers on the right."""

BAR: Final = 14
STEP: Final = 19
GROUP: Final = 30
TOP: Final = 48
BOTTOM: Final = 30

STYLE: Final = """
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.group { font-weight: 600; }
.axis, .value { fill: #57606a; }
.grid { stroke: #d8dee4; }
.bar { fill: #a8b1bb; }
.ours { fill: #1f6feb; }
.spread { stroke: #24292f; stroke-width: 1.2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .axis, .value { fill: #9198a1; }
  .grid { stroke: #30363d; }
  .bar { fill: #656c76; }
  .ours { fill: #4493f8; }
  .spread { stroke: #e6edf3; }
}
"""


@frozen
class Bar:
    """One tool's seconds: median, least and most, and what is written beside it."""

    name: str
    median: float
    least: float
    most: float
    text: str


@frozen
class Group:
    """Bars under one heading."""

    heading: str
    bars: Sequence[Bar]


@frozen
class Scale:
    """A logarithmic axis from `low` to `high` seconds over the pixels of the plot."""

    low: float
    high: float

    def x(self, seconds: float) -> float:
        """Return the place of a number of seconds, in pixels from the left."""
        part = math.log(max(seconds, self.low) / self.low) / math.log(self.high / self.low)
        return LABEL + part * (WIDTH - LABEL - VALUE)

    def marks(self) -> list[float]:
        """Return the powers of ten on it."""
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1)]


def chart(title: str, groups: Sequence[Group]) -> str:
    """Return an SVG image; bars of names that begin with `bn` stand out."""
    scale = _scale(groups)
    height = TOP + BOTTOM + sum(GROUP + STEP * len(group.bars) for group in groups)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"',
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="12" y="24">{escape(title)}</text>',
        f'<text class="axis" x="{WIDTH - 12}" y="{TOP - 6}" text-anchor="end">log scale</text>',
    ]
    for mark in scale.marks():
        x = scale.x(mark)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{height - BOTTOM}"/>'
            f'<text class="axis" x="{x:.1f}" y="{height - 12}" text-anchor="middle">'
            f"{show_seconds(mark)}</text>"
        )
    y = TOP
    for group in groups:
        parts.append(f'<text class="group" x="12" y="{y + 12}">{escape(group.heading)}</text>')
        y += GROUP - 8
        for bar in group.bars:
            parts.append(_bar(bar, scale, y))
            y += STEP
        y += 8
    return "\n".join([*parts, "</svg>", ""])


def _bar(bar: Bar, scale: Scale, y: float) -> str:
    left, right, middle = scale.x(scale.low), scale.x(bar.median), y + BAR / 2
    least, most = scale.x(bar.least), scale.x(bar.most)
    kind = "bar ours" if bar.name.startswith("bn") else "bar"
    return (
        f'<text x="{LABEL - 8}" y="{y + 11}" text-anchor="end">{escape(bar.name)}</text>'
        f'<rect class="{kind}" x="{left:.1f}" y="{y}" width="{max(1.0, right - left):.1f}" '
        f'height="{BAR}" rx="2"/>'
        f'<line class="spread" x1="{least:.1f}" y1="{middle}" x2="{most:.1f}" y2="{middle}"/>'
        f'<text class="value" x="{max(right, most) + 6:.1f}" y="{y + 11}">'
        f"{escape(bar.text)}</text>"
    )


def _scale(groups: Sequence[Group]) -> Scale:
    bars = [bar for group in groups for bar in group.bars]
    low = 10.0 ** math.floor(math.log10(min(bar.least for bar in bars)))
    high = 10.0 ** math.ceil(math.log10(max(bar.most for bar in bars)))
    return Scale(low, high if high > low else low * 10)


def show_seconds(seconds: float) -> str:
    """Return a duration with three digits at most."""
    if seconds < 0.1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"
