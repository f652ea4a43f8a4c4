"""SVG pictures of charts: a page for light and dark, and the few shapes that charts are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from xml.sax.saxutils import escape, quoteattr

TITLE_Y: Final = 24
"""Where the title stands, in pixels from the top."""

STYLE: Final = """
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.group { font-weight: 600; }
.axis, .value { fill: #57606a; }
.grid { stroke: #d8dee4; }
.lane { fill: #f4f4f4; }
.ours { fill: #1f6feb; }
.other { fill: #a8b1bb; }
.spread { stroke: #24292f; stroke-width: 1.2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .axis, .value { fill: #9198a1; }
  .grid { stroke: #30363d; }
  .lane { fill: #21262d; }
  .ours { fill: #4493f8; }
  .other { fill: #656c76; }
  .spread { stroke: #e6edf3; }
}
"""
"""Classes of what is drawn; a picture needs no other file."""


def page(title: str, width: float, height: float, parts: Iterable[str]) -> str:
    """Return a picture of some parts, in pixels, with its title at the top."""
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(title)}>',
        f"<style>{STYLE}</style>",
        words(12, TITLE_Y, title, "title"),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """Return a line of text; `anchor` says which end of it is at `x`: start, middle or end."""
    marked = f' class="{kind}"' if kind else ""
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text{marked} x="{x:.1f}" y="{y:.1f}"{anchored}>{escape(text)}</text>'


def box(
    x: float, y: float, size: tuple[float, float], kind: str = "", colour: str = "", tip: str = ""
) -> str:
    """Return a rectangle of a width and a height, of a class or a colour, with a tool tip."""
    look = f'class="{kind}"' if kind else f'fill="{colour}"'
    width, height = size
    place = f'x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}"'
    if not tip:
        return f'<rect {look} {place} rx="2"/>'
    return f"<rect {look} {place}><title>{escape(tip)}</title></rect>"


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line of a class."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
