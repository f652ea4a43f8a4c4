"""Bar charts of results and comparisons, for terminals and as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from attrs import frozen

BLOCKS: Final = " ▏▎▍▌▋▊▉"
WIDTH: Final = 760
LABEL: Final = 200
VALUE: Final = 130
STEP: Final = 20
BAR: Final = 14
GROUP: Final = 34
TOP: Final = 44

STYLE: Final = """
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.group { font-weight: 600; }
.value { fill: #57606a; }
.bar { fill: #1f6feb; }
.other { fill: #a8b1bb; }
.spread { stroke: #24292f; stroke-width: 1.2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .value { fill: #9198a1; }
  .bar { fill: #4493f8; }
  .other { fill: #656c76; }
  .spread { stroke: #e6edf3; }
}
"""


@frozen(kw_only=True)
class Bar:
    """One bar: its length as a share (0–1) of the plot, half its spread likewise, and its text."""

    name: str
    share: float
    text: str
    spread: float = 0.0
    other: bool = False


@frozen
class Group:
    """Bars under one heading."""

    heading: str
    bars: Sequence[Bar]


def share(value: float, most: float, lower_is_better: bool = False, least: float = 0.0) -> float:
    """Return the length of a bar among others: the longest is the best. `most` and `least` are the
    ends of what is shown together; where less is better the length is `least` over the value."""
    if lower_is_better:
        return least / value if value > 0 else 1.0
    return value / most if most > 0 else 0.0


def text_chart(groups: Sequence[Group], columns: int = 80) -> list[str]:
    """Return the lines of a chart that is at most so many columns wide."""
    bars = [bar for group in groups for bar in group.bars]
    label = max((len(bar.name) for bar in bars), default=0)
    value = max((len(bar.text) for bar in bars), default=0)
    room = max(8, columns - label - value - 4)
    lines: list[str] = []
    for group in groups:
        lines += [*([""] if lines else []), group.heading]
        lines += [
            f"  {bar.name:<{label}} {_blocks(bar.share, room)} {bar.text:>{value}}"
            for bar in group.bars
        ]
    return lines


def _blocks(length: float, room: int) -> str:
    eighths = round(min(1.0, max(0.0, length)) * room * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (BLOCKS[rest] if rest else "")).ljust(room)


def svg_chart(title: str, groups: Sequence[Group]) -> str:
    """Return a chart as an SVG image, for light and dark pages."""
    height = TOP + sum(GROUP + STEP * len(group.bars) for group in groups) + 8
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    label = quoteattr(title)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={label}>',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="12" y="24">{escape(title)}</text>',
    ]
    y = TOP
    for group in groups:
        parts.append(f'<text class="group" x="12" y="{y + 12}">{escape(group.heading)}</text>')
        y += GROUP - 12
        for bar in group.bars:
            parts.append(_svg_bar(bar, y))
            y += STEP
        y += 12
    return "\n".join([*parts, "</svg>", ""])


def _svg_bar(bar: Bar, y: int) -> str:
    room = WIDTH - LABEL - VALUE
    length = max(1.0, min(1.0, bar.share) * room)
    middle, half = y + BAR / 2, min(room / 2, bar.spread * room / 2)
    ends = max(0.0, length - half), min(float(room), length + half)
    line = ""
    if half >= 1 and math.isfinite(half):
        line = (
            f'<line class="spread" x1="{LABEL + ends[0]:.1f}" y1="{middle}" '
            f'x2="{LABEL + ends[1]:.1f}" y2="{middle}"/>'
        )
    right = LABEL + max(length, ends[1] if line else 0.0) + 6
    return (
        f'<text x="{LABEL - 8}" y="{y + 11}" text-anchor="end">{escape(bar.name)}</text>'
        f'<rect class="{"other" if bar.other else "bar"}" x="{LABEL}" y="{y}" '
        f'width="{length:.1f}" height="{BAR}" rx="2"/>{line}'
        f'<text class="value" x="{right:.1f}" y="{y + 11}">{escape(bar.text)}</text>'
    )
