"""Bar charts as SVG: one bar for each tool, groups below each other, seconds on a log scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from engine.svg import box, line, page, words

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
    parts = [words(WIDTH - 12, TOP - 6, "log scale", "axis", "end")]
    for mark in scale.marks():
        x = scale.x(mark)
        parts.append(line(x, TOP - 8, x, height - BOTTOM, "grid"))
        parts.append(words(x, height - 12, show_seconds(mark), "axis", "middle"))
    y = TOP
    for group in groups:
        parts.append(words(12, y + 12, group.heading, "group"))
        y += GROUP - 8
        for bar in group.bars:
            parts += _bar(bar, scale, y)
            y += STEP
        y += 8
    return page(title, WIDTH, height, parts)


def _bar(bar: Bar, scale: Scale, y: float) -> Iterator[str]:
    left, right, middle = scale.x(scale.low), scale.x(bar.median), y + BAR / 2
    least, most = scale.x(bar.least), scale.x(bar.most)
    kind = "ours" if bar.name.startswith("bn") else "other"
    yield words(LABEL - 8, y + 11, bar.name, anchor="end")
    yield box(left, y, (max(1.0, right - left), BAR), kind)
    yield line(least, middle, most, middle, "spread")
    yield words(max(right, most) + 6, y + 11, bar.text, "value")


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
