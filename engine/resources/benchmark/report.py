"""Reports: runs, a node's history, and comparisons as lines and charts."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence

from engine.resources.benchmark.chart import Bar, Group, share
from engine.resources.benchmark.compare import Row
from engine.resources.benchmark.cpu import UNCERTAINTY
from engine.resources.benchmark.results import CPU, Measure, Run, latest, show_value


def when(seconds: float) -> str:
    """Return a time as people here write it, without seconds."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def spread(one: Measure) -> str:
    """Return how far samples lay apart, nothing for a single one."""
    return f" ±{one.spread / 2:.0%}" if one.samples > 1 else ""


def headline(run: Run) -> str:
    """Return what a run was."""
    way = f", by {run.way}" if run.way else ""
    if run.way in UNCERTAINTY:
        way += f" (BPU ±{UNCERTAINTY[run.way]:.0%})"
    target = f" {run.target}" if run.target else ""
    return f"{run.node}: {run.kind}{target}{way}, {when(run.time)}"


def others(run: Run) -> str:
    """Return how busy the machine was with other work during a run."""
    if run.kind == CPU:
        return f"other work held it up for {run.busy:.0%} of the time"
    return f"other work had {run.busy:.0%} of the processors"


def lines(runs: Iterable[Run]) -> Iterator[str]:
    """Yield all measures of some runs, with notes."""
    for run in runs:
        yield headline(run)
        width = max((len(one.name) for one in run.measures), default=0)
        for one in run.measures:
            yield f"  {one.name:<{width}}  {show_value(one.value, one.unit)}{spread(one)}"
        if run.busy is not None:
            yield f"  {others(run)}"
        for note in run.notes:
            yield f"  note: {note}"


def charted(runs: Iterable[Run]) -> list[Group]:
    """Return the bars of the last runs: what is of one unit and kind together."""
    last = latest(runs)
    groups = []
    for heading, names in (
        ("one core (BPU)", ("cpu.single", "cpu.single.performance", "cpu.single.efficiency")),
        ("all threads (BPU)", ("cpu.multi",)),
        ("memory", ("memory.single", "memory.multi")),
        ("scores (of 1000)", ("storage.score", "network.score")),
    ):
        found = [(run, one) for run in last for one in run.measures if one.name in names]
        if found:
            most = max(one.value for _, one in found)
            if names[0] == "cpu.single":
                most = max(most, 1.0)
            if names[0] == "storage.score":
                most = 1000.0
            bars = [_bar(run, one, most) for run, one in found]
            if names[0] == "cpu.single":
                bars.append(Bar(name="i5-10400", share=1 / most, text="1.00 BPU", other=True))
            groups.append(Group(heading, bars))
    return groups


def _bar(run: Run, one: Measure, most: float) -> Bar:
    kind = one.name.partition(".")[2].removeprefix("single").removeprefix(".")
    address = run.target.removeprefix("https://").removeprefix("http://")
    detail = address or (kind if kind not in ("multi", "score") else "")
    if one.name.startswith("memory"):
        detail = "one core" if one.name == "memory.single" else "all cores"
    length = share(one.value, most)
    return Bar(
        name=" ".join(filter(None, (run.node, _short(detail)))),
        share=length,
        spread=length * one.spread,
        text=show_value(one.value, one.unit),
    )


def _short(text: str, room: int = 22) -> str:
    return text if len(text) <= room else f"…{text[1 - room :]}"


def compared(rows: Sequence[Row], first: str, second: str) -> list[str]:
    """Return a table of two nodes, with what is better by how much."""
    table = [("", first, second, "")]
    for row in rows:
        values = [
            f"{show_value(one.value, one.unit)}{spread(one)}" if one else "–"
            for one in (row.first, row.second)
        ]
        table.append((row.name, values[0], values[1], _verdict(row, first, second)))
    widths = [max(len(line[at]) for line in table) for at in range(3)]
    return [
        f"{name:<{widths[0]}}  {one:>{widths[1]}}  {other:>{widths[2]}}  {verdict}".rstrip()
        for name, one, other, verdict in table
    ]


def _verdict(row: Row, first: str, second: str) -> str:
    if row.ratio is None:
        return "not measured on both"
    if not row.sure:
        return "about the same"
    winner, ratio = (first, row.ratio) if row.ratio > 1 else (second, 1 / row.ratio)
    return f"{winner} {ratio:.2f}×"


def compared_chart(rows: Iterable[Row], first: str, second: str) -> list[Group]:
    """Return the bars of two nodes, one group for each measure that both have."""
    groups = []
    for row in rows:
        if row.first and row.second:
            both = (row.first, row.second)
            most, least = max(one.value for one in both), min(one.value for one in both)
            groups.append(
                Group(
                    row.name,
                    [
                        Bar(
                            name=_short(name),
                            share=share(one.value, most, one.lower_is_better, least),
                            text=show_value(one.value, one.unit),
                            other=name == second,
                        )
                        for name, one in zip((first, second), both, strict=True)
                    ],
                )
            )
    return groups


def history_lines(runs: Iterable[Run], kind: str | None = None) -> Iterator[str]:
    """Yield one line for each run, oldest first: its telling measures and how they changed."""
    before: dict[tuple[str, str, str, str], float] = {}
    for run in sorted(runs, key=lambda run: run.time):
        if kind and run.kind != kind:
            continue
        told = []
        for one in _telling(run):
            key = (run.node, run.kind, run.target, one.name)
            change = one.value / before[key] - 1 if before.get(key) else 0.0
            text = f" ({change:+.0%})" if abs(change) >= 0.01 else ""
            told.append(f"{one.name} {show_value(one.value, one.unit)}{text}")
            before[key] = one.value
        target = f" {run.target}" if run.target else ""
        way = f" [{run.way}]" if run.kind == CPU else ""
        yield f"{when(run.time)}  {run.node} {run.kind}{target}{way}: {', '.join(told)}"


def _telling(run: Run) -> list[Measure]:
    scores = [one for one in run.measures if one.unit in ("BPU", "points")]
    return scores or list(run.measures)
