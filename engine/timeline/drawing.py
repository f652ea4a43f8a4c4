"""A folded graph as an SVG picture: columns from what is needed to what needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from engine.timeline.folding import Folded, Node
from engine.units import show_duration

WIDTH: Final = 196
HEIGHT: Final = 40
ACROSS: Final = 64
DOWN: Final = 12
EDGE: Final = 10
"""Pixels: of a node, between columns, between rows, around all."""

LETTERS: Final = 27
"""Of a title, that fit."""

NAMED: Final = 20
"""Steps of a group that its tool tip names."""

SWEEPS: Final = 4
"""Times that rows are ordered by their neighbours, so that fewer lines cross."""


def draw(graph: Folded, anchors: Mapping[str, str], path: Iterable[tuple[str, str]] = ()) -> str:
    """Return the picture; nodes with a step in `anchors` lead to that place in the page, lines from
    one step of `path` to the next are marked."""
    where = {label: number for number, node in enumerate(graph.nodes) for label in node.labels}
    marked = {(where.get(start), where.get(end)) for start, end in path}
    rows = _rows(graph)
    places = {
        number: (
            EDGE + graph.columns[number] * (WIDTH + ACROSS),
            EDGE + row * (HEIGHT + DOWN),
        )
        for number, row in rows.items()
    }
    width = 2 * EDGE + (max(graph.columns, default=0) + 1) * (WIDTH + ACROSS) - ACROSS
    height = 2 * EDGE + (max(rows.values(), default=0) + 1) * (HEIGHT + DOWN) - DOWN
    parts = [
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
        "<title>the graph of the build</title>",
    ]
    parts += [_edge(places[a], places[b], marked=(a, b) in marked) for a, b in graph.edges]
    parts += [_node(node, *places[number], anchors) for number, node in enumerate(graph.nodes)]
    return "".join([*parts, "</svg>"])


def _rows(graph: Folded) -> dict[int, int]:
    """Return the row of each node in its column."""
    columns: dict[int, list[int]] = {}
    for number, column in enumerate(graph.columns):
        columns.setdefault(column, []).append(number)
    near: dict[int, list[int]] = {number: [] for number in range(len(graph.nodes))}
    for start, end in graph.edges:
        near[start].append(end)
        near[end].append(start)
    rows = {number: row for some in columns.values() for row, number in enumerate(some)}
    for sweep in range(SWEEPS):
        for column in sorted(columns, reverse=bool(sweep % 2)):
            middles = {number: _middle(number, near[number], rows) for number in columns[column]}
            columns[column].sort(key=middles.__getitem__)
            rows |= {number: row for row, number in enumerate(columns[column])}
    return rows


def _middle(number: int, near: list[int], rows: Mapping[int, int]) -> tuple[float, int]:
    """Return where a node would best be: in the middle of its neighbours."""
    where = [rows[other] for other in near]
    return (sum(where) / len(where) if where else rows[number]), number


def _edge(start: tuple[int, int], end: tuple[int, int], *, marked: bool) -> str:
    (x, y), (to_x, to_y) = start, end
    x, y, to_y = x + WIDTH, y + HEIGHT // 2, to_y + HEIGHT // 2
    bend = max(ACROSS // 2, abs(to_x - x) // 2)
    mark = "edge path" if marked else "edge"
    return f'<path class="{mark}" d="M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"/>'


def _node(node: Node, x: int, y: int, anchors: Mapping[str, str]) -> str:
    mark = f"node {node.ended}{' path' if node.on_path else ''}"
    parts = [node.ended]
    if len(node.labels) > 1:
        parts.insert(0, f"{len(node.labels)} steps")
    if node.seconds:
        parts.append(show_duration(node.seconds))
    names = "\n".join(node.labels[:NAMED])
    rest = len(node.labels) - NAMED
    tip = f"{names}\nand {rest} more" if rest > 0 else names
    title = node.title
    if len(title) > LETTERS:
        head = title[: min(title.find("[") + 1, LETTERS // 2) or LETTERS // 2]
        title = f"{head}…{title[len(title) + len(head) + 1 - LETTERS :]}"
    text = (
        f'<g class="{mark}"><title>{escape(tip)}</title>'
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x + 10}" y="{y + 17}">{escape(title)}</text>'
        f'<text class="less" x="{x + 10}" y="{y + 32}">{escape(" · ".join(parts))}</text></g>'
    )
    anchor = next((anchors[label] for label in node.labels if label in anchors), None)
    return text if anchor is None else f'<a href="#{escape(anchor)}">{text}</a>'
