"""Impact: what an edit will make run again, and how long that will take; said before it is built.

Pure: a graph, what its steps said they read, and how long they took, folded into an answer. It is
the most that will run: where a step's outputs come out as before, those that need it stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from attrs import frozen

from engine.graph import Graph, Recipe
from engine.placement.work import make_work, ranks
from engine.timeline.rehearsal import Rehearsal

GUESS: Final = 1.0
"""Seconds that a step counts for where none of all ever ran."""

Observed: TypeAlias = Callable[[str], Collection[str] | None]
"""The inputs that a step said it read when it last ran, by label; None where it does not say."""


@frozen(kw_only=True)
class Edit:
    """What an edited path is to a graph: its `kind` (file, directory, spec, toolchain, tool), and
    by step that it touches the staged paths that are edited (none: all of the step may be).

    It is `exact` where just these run again, not where that depends on what is edited in it.
    """

    path: str
    kind: str
    exact: bool
    steps: Mapping[str, frozenset[str]]
    note: str = ""


@frozen(kw_only=True)
class Affected:
    """A step that runs again: why (a path, or a step that it needs), and how long it takes in
    seconds, as it did last, or, where it is not `known`, as others do."""

    label: str
    because: str
    seconds: float
    known: bool


@frozen(kw_only=True)
class Impact:
    """What edits make run again: the steps, needed ones first, out of `steps`; how long that takes
    (seconds) on so many processors, the longest chain among them and the work of all. `anyway` are
    steps that have to run without any edit."""

    edits: tuple[Edit, ...]
    affected: tuple[Affected, ...]
    steps: int
    processors: int
    seconds: float
    longest: float
    work: float
    anyway: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether just what the edits touch is known."""
        return all(edit.exact for edit in self.edits)

    @property
    def unknown(self) -> int:
        """How many of the steps never ran."""
        return sum(not one.known for one in self.affected)

    def document(self) -> dict[str, Any]:
        """Return its JSON form; seconds."""
        return {
            "edits": [
                {
                    "path": edit.path,
                    "kind": edit.kind,
                    "exact": edit.exact,
                    "touches": sorted(edit.steps),
                    "note": edit.note,
                }
                for edit in self.edits
            ],
            "actions": len(self.affected),
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "longest_chain": round(self.longest, 3),
            "work": round(self.work, 3),
            "processors": self.processors,
            "exact": self.exact,
            "never_ran": self.unknown,
            "affected": [
                {
                    "label": one.label,
                    "because": one.because,
                    "seconds": round(one.seconds, 3),
                    "known": one.known,
                }
                for one in self.affected
            ],
            "anyway": list(self.anyway),
        }


def impact(
    graph: Graph,
    order: Sequence[str],
    edits: Sequence[Edit],
    observed: Observed,
    took: Callable[[str], float | None],
    processors: int,
    anyway: Collection[str] = (),
) -> Impact:
    """Return what edits make run again of the steps in `order` (needed ones first); `took` gives
    the seconds that a step takes here, None where it never ran."""
    because = _affected(graph, order, edits, observed)
    seconds = _durations([label for label in order if label in because], took)
    needs = {label: graph.needs_of(label) for label in because}
    held = {label: graph.recipes[label].resources.cpus for label in because}
    longest, makespan = _times(
        {label: one for label, (one, _) in seconds.items()}, needs, held, processors
    )
    return Impact(
        edits=tuple(edits),
        affected=tuple(
            Affected(label=label, because=because[label], seconds=value, known=known)
            for label, (value, known) in seconds.items()
        ),
        steps=len(order),
        processors=processors,
        seconds=makespan,
        longest=longest,
        work=sum(value for value, _ in seconds.values()),
        anyway=tuple(label for label in order if label in anyway and label not in because),
    )


def _affected(
    graph: Graph, order: Iterable[str], edits: Iterable[Edit], observed: Observed
) -> dict[str, str]:
    """Return the steps that run again, each with a path or step because of which it does."""
    found: dict[str, str] = {}
    for label in order:
        recipe = graph.recipes[label]
        read = observed(label) if recipe.depfile else None
        because = _by_edit(label, edits, read) or _by_need(graph, recipe, found, read)
        if because:
            found[label] = because
    return found


def _by_edit(label: str, edits: Iterable[Edit], read: Collection[str] | None) -> str:
    for edit in edits:
        paths = edit.steps.get(label)
        if paths is not None and (not paths or read is None or not paths.isdisjoint(read)):
            return edit.path
    return ""


def _by_need(
    graph: Graph, recipe: Recipe, found: Mapping[str, str], read: Collection[str] | None
) -> str:
    for need in recipe.needs:
        if need.recipe not in found:
            continue
        if read is None:
            return need.recipe
        below = [f"{need.stage}/{path}" for path in graph.recipes[need.recipe].outputs]
        if any(one == path or one.startswith(f"{path}/") for path in below for one in read):
            return need.recipe
    return ""


def _durations(
    labels: Sequence[str], took: Callable[[str], float | None]
) -> dict[str, tuple[float, bool]]:
    """Return how long steps take, and whether that is known; else they count as the mean of those
    of the same artifact, or of all."""
    known = {label: took(label) for label in labels}
    by_artifact: dict[str, list[float]] = {}
    for label, seconds in known.items():
        if seconds is not None:
            by_artifact.setdefault(label.partition("[")[0], []).append(seconds)
    every = [one for some in by_artifact.values() for one in some]
    mean = sum(every) / len(every) if every else GUESS
    found: dict[str, tuple[float, bool]] = {}
    for label, seconds in known.items():
        if seconds is None:
            alike = by_artifact.get(label.partition("[")[0], [])
            found[label] = (sum(alike) / len(alike) if alike else mean), False
        else:
            found[label] = seconds, True
    return found


def _times(
    seconds: Mapping[str, float],
    needs: Mapping[str, Iterable[str]],
    held: Mapping[str, int],
    processors: int,
) -> tuple[float, float]:
    """Return the longest chain of steps, and what all take where the longest chains go first."""
    work = make_work(seconds, needs, held)
    rank = ranks(work)
    order = sorted(range(len(work)), key=lambda one: (-rank[one], one))
    places = {number: place for place, number in enumerate(order)}
    paper = Rehearsal(
        labels=[work.labels[one] for one in order],
        seconds=[work.seconds[one] for one in order],
        needs=[[places[need] for need in work.needs[one]] for one in order],
        nodes=["here"] * len(order),
        cpus={"here": max(1, processors)},
        held=[work.cpus[one] for one in order],
    )
    return max(rank, default=0.0), paper.makespan()
