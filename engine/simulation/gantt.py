"""Gantt charts of a simulated build: text for the terminal, SVG for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.simulation.history import History, Run
from engine.svg import box, page, words

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
MARKS: Final = {"failed": "✗", "vanished": "!"}
ROWS: Final = 40
"""Nodes that a chart in the terminal shows."""

COLOURS: Final = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#edc948", "#9c755f")
BAD: Final = "#e15759"
LANE: Final = 14
"""Height of a processor's row in an SVG, in pixels."""


def text_chart(history: History, width: int = 72) -> list[str]:
    """Return lines that show for each node which share of it was busy when; ✗ where a step failed,
    ! where the node dropped out."""
    if not history.makespan:
        return []
    step = history.makespan / width
    name_width = max(len(one.name) for one in history.nodes[:ROWS])
    by_node: dict[str, list[Run]] = {}
    for run in history.runs:
        by_node.setdefault(run.node, []).append(run)
    lines = []
    for one in history.nodes[:ROWS]:
        cells, marks = [0.0] * width, [""] * width
        for run in by_node.get(one.name, ()):
            _fill(cells, run, step)
            if run.outcome in MARKS:
                marks[min(width - 1, int(run.end / step))] = MARKS[run.outcome]
        shares = [min(1.0, busy / (step * one.cpus)) for busy in cells]
        shown = (mark or BLOCKS[round(s * 8)] for s, mark in zip(shares, marks, strict=True))
        lines.append(f"{one.name:<{name_width}} │{''.join(shown)}│")
    if len(history.nodes) > ROWS:
        lines.append(f"… and {len(history.nodes) - ROWS} more nodes")
    end = f"{history.makespan:.1f} s"
    lines.append(f"{'':<{name_width}} 0 s{end:>{width - 1}}")
    return lines


def _fill(cells: list[float], run: Run, step: float) -> None:
    first, last = int(run.start / step), min(len(cells) - 1, int(run.end / step))
    for place in range(first, last + 1):
        begin, end = max(run.start, place * step), min(run.end, (place + 1) * step)
        cells[place] += max(0.0, end - begin) * run.cpus


def lanes(runs: Sequence[Run]) -> list[tuple[Run, int]]:
    """Return each run with the first processor of its node that is free for it."""
    free: list[float] = []
    found = []
    for run in sorted(runs, key=lambda one: (one.start, one.label)):
        places = [n for n, until in enumerate(free) if until <= run.start + 1e-9]
        while len(places) < run.cpus:
            places.append(len(free))
            free.append(0.0)
        for place in places[: run.cpus]:
            free[place] = run.end
        found.append((run, places[0]))
    return found


def svg_chart(history: History, title: str, width: int = 1000) -> str:
    """Return an SVG picture: a row for each processor, a bar for each run, with tool tips."""
    left, top = 120, 56
    room = width - left - 20
    scale = room / (history.makespan or 1.0)
    by_node: dict[str, list[Run]] = {one.name: [] for one in history.nodes}
    for run in history.runs:
        by_node[run.node].append(run)
    bars: list[str] = []
    y = top
    for one in history.nodes:
        height = one.cpus * LANE
        bars.append(box(left, y, (room, height), "lane"))
        bars.append(words(left - 6, y + height / 2 + 4, one.name, anchor="end"))
        for run, lane in lanes(by_node[one.name]):
            said = f"{run.label}: {run.start:.2f}–{run.end:.2f} s, {run.outcome}"
            bars.append(
                box(
                    left + run.start * scale,
                    y + lane * LANE + 1,
                    (max(0.5, (run.end - run.start) * scale), LANE * run.cpus - 2),
                    colour=BAD if run.outcome != "ended" else _colour(run.label),
                    tip=f"{said}; {run.why}" if run.why else said,
                )
            )
        y += height + 3
    summary = (
        f"{history.makespan:.1f} s, lower bound {history.bound.seconds:.1f} s "
        f"(× {history.ratio:.3f}), {history.utilisation:.0%} busy"
    )
    ends = (
        words(left, y + 14, "0 s", "axis"),
        words(width - 20, y + 14, f"{history.makespan:.1f} s", "axis", "end"),
    )
    return page(title, width, y + 24, [words(12, 42, summary, "value"), *bars, *ends])


def _colour(label: str) -> str:
    """Return a colour that steps of one kind share: by the name up to the first digit."""
    kind = label.rstrip("0123456789").rpartition("_")[0] or label
    return COLOURS[sum(map(ord, kind)) % len(COLOURS)]
