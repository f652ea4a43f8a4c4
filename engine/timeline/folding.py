"""A build's graph folded so that it can be shown: what matters by itself, the rest in groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Final

from attrs import frozen

from engine.timeline.course import CACHED, RUNNING, SKIPPED, SUCCEEDED, Course, Step

PLAIN: Final = 32
"""Steps up to which each is a node."""

MOST: Final = 120
"""Nodes that a picture has at most, about."""

KEPT: Final = 40
"""Steps that are shown by themselves in a graph that is folded."""

COLUMNS: Final = 24
"""Columns into which a deep graph is folded."""

FAILED: Final = "failed"


@frozen(kw_only=True)
class Node:
    """A step, or several alike: what it is called, how they ended (cached, built, failed, skipped,
    running), the seconds that they took together, and whether one is on the critical path."""

    title: str
    ended: str
    labels: tuple[str, ...]
    seconds: float
    on_path: bool


@frozen(kw_only=True)
class Folded:
    """Nodes with their columns, and which needs which: (the needed one, the one that needs it)."""

    nodes: tuple[Node, ...]
    columns: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]


def ended(step: Step) -> str:
    """Return how a step ended, in the words of a picture."""
    known = {SUCCEEDED: "built", CACHED: CACHED, SKIPPED: SKIPPED, RUNNING: RUNNING}
    return known.get(step.status, FAILED)


def fold(
    course: Course, important: Iterable[str], path: Collection[str], most: int = MOST
) -> Folded:
    """Return the graph of a build's steps in about `most` nodes; `important` steps stay by
    themselves, the first ones first, those on the critical `path` are marked."""
    steps = course.steps
    depth = depths(steps)
    if len(steps) <= min(PLAIN, most):
        return _folded(steps, depth, {label: label for label in steps}, path)
    kept = {
        label
        for label, _ in zip((one for one in important if one in steps), range(KEPT), strict=False)
    }
    deepest = max(depth.values(), default=0) + 1

    def column(step: Step) -> int:
        return depth[step.label] * COLUMNS // deepest

    def by_artifact(step: Step) -> Hashable:
        return step.artifact, ended(step), column(step) if deepest > COLUMNS else 0

    groups = _groups(steps, kept, by_artifact)
    if len(set(groups.values())) > most:
        groups = _groups(steps, kept, lambda step: (column(step), ended(step)))
    return _folded(steps, depth, groups, path)


def depths(steps: Mapping[str, Step]) -> dict[str, int]:
    """Return for each step the longest chain of needs below it, in steps."""
    found: dict[str, int] = {}
    for first in steps:
        stack = [(first, False)]
        while stack:
            label, below = stack.pop()
            if below:
                needs = [found.get(need, 0) + 1 for need in steps[label].needs if need in steps]
                found[label] = max(needs, default=0)
            elif label not in found:
                found[label] = 0  # so that a circle, which no graph has, would come to an end
                stack.append((label, True))
                stack += [(n, False) for n in steps[label].needs if n in steps and n not in found]
    return found


def _groups(
    steps: Mapping[str, Step], kept: Collection[str], way: Callable[[Step], Hashable]
) -> dict[str, Hashable]:
    return {label: label if label in kept else way(step) for label, step in steps.items()}


def _folded(
    steps: Mapping[str, Step],
    depth: Mapping[str, int],
    groups: Mapping[str, Hashable],
    path: Collection[str],
) -> Folded:
    members: dict[Hashable, list[str]] = {}
    for label, group in groups.items():
        members.setdefault(group, []).append(label)
    ordered = sorted(members, key=lambda one: max(depth[label] for label in members[one]))
    numbers = {group: number for number, group in enumerate(ordered)}
    edges: dict[tuple[int, int], None] = {}
    for label, group in groups.items():
        for need in steps[label].needs:
            if need in groups and groups[need] != group:
                edges[numbers[groups[need]], numbers[group]] = None
    columns = [0] * len(ordered)
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        if start < end:
            columns[end] = max(columns[end], columns[start] + 1)
    return Folded(
        nodes=tuple(_node(steps, members[group], path) for group in ordered),
        columns=tuple(columns),
        edges=tuple(edges),
    )


def _node(steps: Mapping[str, Step], labels: list[str], path: Collection[str]) -> Node:
    first = steps[labels[0]]
    artifacts = list(dict.fromkeys(steps[label].artifact for label in labels))
    title = first.label if len(labels) == 1 else artifacts[0]
    if len(artifacts) > 1:
        title = f"{artifacts[0]} and {len(artifacts) - 1} others"
    return Node(
        title=title,
        ended=ended(first),
        labels=tuple(labels),
        seconds=sum(steps[label].seconds for label in labels),
        on_path=any(label in path for label in labels),
    )
