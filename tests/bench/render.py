"""Tables and charts of results, and the section of the README that shows them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.chart import Bar, Group, chart, show_seconds
from tests.bench.results import BASE, Cell, Results

BEGIN: Final = "<!-- speed: begin -->"
END: Final = "<!-- speed: end -->"

HEADINGS: Final = {
    "cold": "cold",
    "noop": "nothing changed",
    "leaf": "one leaf changed",
    "comment": "comment changed",
    "clean": "after clean, from cache",
}


def tables(results: Results) -> str:
    """Return all tables as Markdown: wall time with its spread, processor time and memory."""
    parts = ["# Bench\n", _machine(results), _legend(results)]
    for workload, title in results.titles.items():
        if not results.peers(workload):
            continue
        parts += [
            f"## {title}\n",
            f"Seconds: median (least–most), × {BASE} in the same round.\n",
            _table(results, workload, _wall),
            "Processor seconds with all that it ran, peak memory of its own process:\n",
            _table(results, workload, _resources),
        ]
    if results.skipped or results.missing:
        parts += ["## Left out\n", _left_out(results)]
    return "\n".join(parts)


def short_tables(results: Results) -> str:
    """Return the tables of the README: medians and ratios."""
    parts = []
    for workload, title in results.titles.items():
        if results.peers(workload) and not workload.startswith("W5"):
            parts += [f"**{workload}**, {title}:\n", _table(results, workload, _brief)]
    still = [workload for workload in results.titles if workload.startswith("W5")]
    if still:
        parts += ["**W5**, nothing changed, by the number of actions:\n", _by_size(results, still)]
    return "\n".join(parts)


def _table(results: Results, workload: str, show: Callable[[Cell], str]) -> str:
    phases = results.phases(workload)
    rows = [["", *(HEADINGS[phase] for phase in phases)]]
    for peer in results.peers(workload):
        cells = [
            show(results.cell(workload, phase, peer))
            if results.runs(workload, phase, peer)
            else "–"
            for phase in phases
        ]
        rows.append([peer, *cells])
    return _markdown(rows)


def _by_size(results: Results, workloads: Sequence[str]) -> str:
    peers = dict.fromkeys(peer for workload in workloads for peer in results.peers(workload))
    rows = [["", *(workload.partition("-")[2] for workload in workloads)]]
    for peer in peers:
        cells = [
            _brief(results.cell(workload, "noop", peer))
            if results.runs(workload, "noop", peer)
            else "–"
            for workload in workloads
        ]
        rows.append([peer, *cells])
    return _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest]) + "\n"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.0f}×"


def _wall(cell: Cell) -> str:
    ratio = f" · {_times(cell.ratio)}" if cell.ratio is not None else ""
    spread = f" ({show_seconds(cell.least)}–{show_seconds(cell.most)})" if cell.runs > 1 else ""
    return f"{show_seconds(cell.median)}{spread}{ratio}"


def _brief(cell: Cell) -> str:
    ratio = f" · {_times(cell.ratio)}" if cell.ratio is not None else ""
    return f"{show_seconds(cell.median)}{ratio}"


def _resources(cell: Cell) -> str:
    return f"{show_seconds(cell.cpu)}, {cell.memory / 1e6:.0f} MB"


def _machine(results: Results) -> str:
    it = results.machine
    return (
        f"{it['processors']} processors ({it['architecture']}), "
        f"{it['memory'] / 2**30:.0f} GiB of memory, {it['file_system']}, Linux {it['kernel']}, "
        f"Python {it['python']}{', as root' if it['root'] else ''}. "
        f"{results.checked} comparisons of outputs, all equal.\n"
    )


def _legend(results: Results) -> str:
    shown = []
    for peer, version in results.versions.items():
        note = f": {results.notes[peer]}" if results.notes.get(peer) else ""
        shown.append(f"- {peer} {version}{note}")
    return "\n".join(shown) + "\n"


def _left_out(results: Results) -> str:
    lines = [f"- {peer}: {reason}" for peer, reason in results.missing.items()]
    for one in results.skipped:
        reason = one.reason.splitlines()[0] if one.reason else ""
        lines.append(f"- {one.workload}, {one.peer}: {reason}")
    return "\n".join(lines) + "\n"


def charts(results: Results) -> dict[str, str]:
    """Return SVG images by file name: one for each workload, one for nothing changed at all."""
    made = {}
    still = []
    for workload, title in results.titles.items():
        if not results.peers(workload):
            continue
        if workload.startswith("W5"):
            still.append(_group(results, workload, "noop", title.partition(":")[2].strip()))
            continue
        groups = [
            _group(results, workload, phase, HEADINGS[phase]) for phase in results.phases(workload)
        ]
        made[f"{workload}.svg"] = chart(f"{workload}, {title}", groups)
    if still:
        made["W5.svg"] = chart("W5, nothing changed", still)
    return made


def _group(results: Results, workload: str, phase: str, heading: str) -> Group:
    bars = []
    for peer in results.peers(workload):
        if results.runs(workload, phase, peer):
            cell = results.cell(workload, phase, peer)
            bars.append(Bar(peer, cell.median, cell.least, cell.most, _brief(cell)))
    return Group(heading, sorted(bars, key=lambda bar: bar.median))


def write(results: Results, directory: Path, images: Mapping[str, str]) -> None:
    """Write results.md and the charts into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        (directory / name).write_text(image)
    (directory / "results.md").write_text(tables(results))


def rewrite_readme(readme: Path, results: Results, images: Mapping[str, str], where: Path) -> None:
    """Put tables and charts between the two markers of `readme`, the images into `where`.

    Raises ValueError where the markers are not there.
    """
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{readme.name}: has no {BEGIN} … {END}")
    where.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(where, readme.parent)
    for name, image in images.items():
        (where / name).write_text(image)
    shown = "\n\n".join(
        f"![{name.removesuffix('.svg')}: seconds by tool]({relative}/{name})" for name in images
    )
    missing = ", ".join(results.missing)
    left = f"Not installed here: {missing}.\n" if missing else ""
    body = "\n".join(
        [
            BEGIN,
            f"Medians of wall time and ratios to {BASE}'s in the same round.",
            _machine(results),
            _legend(results),
            left,
            short_tables(results),
            shown,
            END,
        ]
    )
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    readme.write_text(before + re.sub(r"\n{3,}", "\n\n", body) + after)
