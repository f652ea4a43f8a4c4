"""How steps ended, in a few bytes for each that has outputs."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

from engine.graph import Graph
from engine.kept_plan import KeptPlan, Standing
from engine.plan import Plan
from engine.remembered import Cached, Remembered
from engine.result import Built, Cancelled, Ended, Failed, Result, Skipped
from store.digest import Digest

_LENGTH: Final = 32
_KINDS: Final[tuple[type[Ended], ...]] = (Cached, Built, Failed, Skipped, Cancelled)
_CACHED, _BUILT = range(2)
_NONE: Final = 255


class Outcomes(Mapping[str, Ended]):
    """What became of the steps with these numbers, in the order in which they ended, after those
    that are `standing` from the beginning.

    Digests are kept as bytes, and a value is made when it is asked for.
    """

    def __init__(
        self, labels: Sequence[str], numbers: Mapping[str, int], standing: Standing | None = None
    ) -> None:
        self._labels = labels
        self._numbers = numbers
        self._standing = Standing() if standing is None else standing
        self._kinds = bytearray([_NONE]) * len(labels)
        self._digests = bytearray(2 * _LENGTH * len(labels))
        self._seconds = array("d", [0.0]) * len(labels)
        self._others: dict[int, Ended] = {}
        self._order = array("l")

    def put(self, label: str, ended: Ended) -> None:
        """Note how a step ended."""
        number = self._numbers[label]
        if self._kinds[number] == _NONE:
            self._order.append(number)
        self._kinds[number] = _KINDS.index(type(ended))
        if isinstance(ended, Cached | Built):
            at = 2 * _LENGTH * number
            both = bytes.fromhex(ended.outputs + ended.action)
            self._digests[at : at + 2 * _LENGTH] = both
            if isinstance(ended, Built):
                self._seconds[number] = ended.seconds
        else:
            self._others[number] = ended

    def outputs(self, label: str) -> Digest:
        """Return the output tree of a step; raises KeyError where it has none."""
        number = self._numbers.get(label)
        if number is None:
            return self._standing.outputs(label)
        if self._kinds[number] not in (_CACHED, _BUILT):
            raise KeyError(label)
        return self._digest(2 * number)

    def count(self, kind: type[Ended]) -> int:
        """Return how many steps ended that way."""
        return self._kinds.count(_KINDS.index(kind)) + (
            len(self._standing) if kind is Cached else 0
        )

    def __getitem__(self, label: str) -> Ended:
        number = self._numbers.get(label)
        if number is None:
            return self._standing[label]
        kind = self._kinds[number]
        if kind == _NONE:
            raise KeyError(label)
        if kind == _CACHED:
            return Cached(self._digest(2 * number), self._digest(2 * number + 1))
        if kind == _BUILT:
            outputs, action = self._digest(2 * number), self._digest(2 * number + 1)
            return Built(outputs, action, self._seconds[number])
        return self._others[number]

    def __contains__(self, label: object) -> bool:
        number = self._numbers.get(label) if isinstance(label, str) else None
        if number is None:
            return label in self._standing
        return self._kinds[number] != _NONE

    def __iter__(self) -> Iterator[str]:
        return chain(self._standing, (self._labels[number] for number in self._order))

    def __len__(self) -> int:
        return len(self._standing) + len(self._order)

    def _digest(self, place: int) -> Digest:
        return Digest(self._digests[_LENGTH * place : _LENGTH * (place + 1)].hex())


def remember(remembered: Remembered, graph: Graph, plan: Plan, result: Result) -> None:
    """Remember what the recipes of a build came to."""
    known = remembered.found
    news = [label for label in plan.others if graph.digest_of(label) not in known]
    if not remembered.add(_by_recipe(graph, result, news), len(plan.steps)):
        remembered.keep(_by_recipe(graph, result, plan.steps))


def keep(kept: KeptPlan, plan: Plan, result: Result) -> None:
    """Remember what the steps of a build came to beside its graph."""
    kept.keep(lambda: _with_outputs(result, plan.others), lambda: _with_outputs(result, plan.steps))


def _by_recipe(
    graph: Graph, result: Result, labels: Iterable[str]
) -> Iterator[tuple[Digest, Cached]]:
    """Yield what the recipes of steps came to."""
    for label, step in _with_outputs(result, labels):
        yield graph.digest_of(label), step


def _with_outputs(result: Result, labels: Iterable[str]) -> Iterator[tuple[str, Cached]]:
    """Yield those of the steps that have outputs."""
    for label in labels:
        step = result.steps.get(label)
        if isinstance(step, Cached | Built):
            yield label, Cached(step.outputs, step.action)
