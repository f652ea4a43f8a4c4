"""Bar charts of results and comparisons, for terminals and as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from engine.svg import box, line, page, words

BLOCKS: Final = " ▏▎▍▌▋▊▉"
WIDTH: Final = 760
LABEL: Final = 200
VALUE: Final = 130
STEP: Final = 20
BAR: Final = 14
GROUP: Final = 34
TOP: Final = 44


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
    parts = []
    y = TOP
    for group in groups:
        parts.append(words(12, y + 12, group.heading, "group"))
        y += GROUP - 12
        for bar in group.bars:
            parts += _svg_bar(bar, y)
            y += STEP
        y += 12
    return page(title, WIDTH, height, parts)


def _svg_bar(bar: Bar, y: int) -> Iterator[str]:
    room = WIDTH - LABEL - VALUE
    length = max(1.0, min(1.0, bar.share) * room)
    half = min(room / 2, bar.spread * room / 2)
    ends = max(0.0, length - half), min(float(room), length + half)
    spread = half >= 1 and math.isfinite(half)
    yield words(LABEL - 8, y + 11, bar.name, anchor="end")
    yield box(LABEL, y, (length, BAR), "other" if bar.other else "ours")
    if spread:
        yield line(LABEL + ends[0], y + BAR / 2, LABEL + ends[1], y + BAR / 2, "spread")
    right = LABEL + max(length, ends[1] if spread else 0.0) + 6
    yield words(right, y + 11, bar.text, "value")
