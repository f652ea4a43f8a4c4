"""The plan: which steps are cached, which would run and why, which wait for others."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final

from engine.graph import Graph
from engine.history import History
from engine.kept_plan import KeptPlan, Standing
from engine.packed_graph import PackedRecipes
from engine.remembered import Cached as Cached
from engine.remembered import Remembered
from engine.resolve import Merging, NothingMatchesError, Resolved, merged, resolve
from engine.steps import Blocked as Blocked
from engine.steps import Run as Run
from engine.steps import Step as Step
from engine.steps import Steps
from store.digest import Digest
from store.records import field, frozen
from store.store import Store

TOGETHER: Final = 1024
"""Steps that are looked for at once."""


@frozen
class Plan:
    """The steps that the targets need, by label, needed ones first.

    What lies below a cached step is left out: it is not needed. Of `steps`, those in `standing` are
    cached and were not looked at one by one. With `is_told` their histories
    say so already. `merging` is how unions of outputs are made.
    """

    targets: tuple[str, ...]
    steps: Mapping[str, Step]
    standing: Standing = field(factory=Standing, repr=False)
    is_told: bool = False
    merging: Merging = field(default=merged, eq=False, repr=False)

    @property
    def others(self) -> Mapping[str, Step]:
        """The steps that are not standing."""
        return self.steps.others if isinstance(self.steps, _Steps) else self.steps

    @property
    def cached(self) -> int:
        """How many steps are cached."""
        others = self.others
        if isinstance(others, Steps):
            return len(self.standing) + others.cached
        return len(self.standing) + sum(isinstance(one, Cached) for one in others.values())

    def is_cached(self, label: str) -> bool:
        """Say whether one of the others is cached. Raises KeyError where it is none of these."""
        others = self.others
        if isinstance(others, Steps):
            return others.is_cached(label)
        return isinstance(others[label], Cached)


class _Steps(Mapping[str, Step]):
    """Steps that stand, and others after them."""

    def __init__(self, standing: Standing, others: Mapping[str, Step]) -> None:
        self._standing = standing
        self.others = others

    def __getitem__(self, label: str) -> Step:
        return self.others[label] if label in self.others else self._standing[label]

    def __contains__(self, label: object) -> bool:
        return label in self.others or label in self._standing

    def __iter__(self) -> Iterator[str]:
        return itertools.chain(self._standing, self.others)

    def __len__(self) -> int:
        return len(self._standing) + len(self.others)


def make_plan(
    graph: Graph,
    targets: tuple[str, ...],
    store: Store,
    history: History,
    remembered: Remembered | None = None,
    *,
    to_show: bool = False,
    doubt: bool = True,
    kept: KeptPlan | None = None,
) -> Plan:
    """Return the plan for `targets` (step labels): realisations first, then the action cache.

    Below a step that is not realised, `remembered` is asked before the store is; unless there is
    `doubt`, files that steps came to are then not looked for, but for those of targets; nor is
    anything of what stands in `kept`, which is for who has none. A plan `to_show` holds nothing of
    the actions.
    """
    below = _Below(graph, frozenset(targets), kept)
    realised: dict[str, Cached] = {}
    fresh: set[str] = set()
    wanted: dict[str, None] = {}
    ends = frozenset(targets)
    stack = list(reversed(targets))
    if len(targets) > 1:
        _look(graph, store, remembered, targets, realised, fresh)
    while stack:
        label = stack.pop()
        if label in wanted:
            continue
        wanted[label] = None
        if label not in realised and label not in fresh:
            digest = graph.digest_of(label)
            known = store.actions.realisation(digest)
            found = Cached(known.outputs, known.action) if known else None
            if found is None and remembered:
                found = remembered.find(digest)
            if found:
                realised[label] = found
        if label not in realised:
            needs = below.look(label)
            stack += needs
            some = [need for need in needs if need not in wanted]
            if remembered and not doubt:
                others = [need for need in some if need not in ends]
                _look(graph, store, remembered, others, realised, fresh, doubt=False)
            _look(graph, store, remembered, some, realised, fresh)
    numbers = graph.recipes.numbers if isinstance(graph.recipes, PackedRecipes) else None
    history.look((label for label in wanted if label not in realised), numbers)
    steps = Steps()
    standing = below.end()
    for label in _order(below, wanted, realised):
        step = realised.get(label) or _step(graph, below, label, steps, store, history, kept)
        steps.put(label, Run(step.reason) if to_show and isinstance(step, Run) else step)
    if kept is None:
        return Plan(targets, steps)
    both = _Steps(standing, steps) if standing else steps
    return Plan(targets, both, standing, kept.is_told, kept.merge)


class _Below:
    """What steps need, less what stands: that is gathered."""

    def __init__(self, graph: Graph, ends: frozenset[str], kept: KeptPlan | None) -> None:
        self._graph = graph
        self._kept = kept
        self._targets = set[int]()
        if kept is not None and isinstance(graph.recipes, PackedRecipes):
            numbers = map(graph.recipes.number_of, ends)
            self._targets.update(number for number in numbers if number is not None)
        self._numbers: dict[int, None] = {}
        self._needs: dict[str, Sequence[str]] = {}
        self.standing = Standing()

    def look(self, label: str) -> Sequence[str]:
        """Return what a step needs and does not stand."""
        recipes = self._graph.recipes
        if self._kept is None or not isinstance(recipes, PackedRecipes):
            return self._graph.needs_of(label)
        some, rest = self._kept.standing(recipes.needs_by_number(label))
        if targets := self._targets.intersection(some):
            rest = [*rest, *targets]
            some = [one for one in some if one not in targets]
        self._numbers.update(dict.fromkeys(some))
        if not rest:
            return ()
        found = self._needs[label] = recipes.labels_at(rest)
        return found

    def needs_of(self, label: str) -> Sequence[str]:
        """Return the same for a step that was looked at."""
        return self._graph.needs_of(label) if self._kept is None else self._needs.get(label, ())

    def end(self) -> Standing:
        """Return what was gathered, which is all."""
        if self._kept is not None:
            self.standing = self._kept.steps(list(self._numbers))
        return self.standing


def _look(
    graph: Graph,
    store: Store,
    remembered: Remembered | None,
    labels: Iterable[str],
    realised: dict[str, Cached],
    fresh: set[str],
    doubt: bool = True,
) -> None:
    """Look for many steps at once: note those that are remembered in `realised`, and in `fresh`
    those that came to nothing yet. Of the others nothing is known then."""
    pending = (label for label in labels if label not in realised and label not in fresh)
    while some := list(itertools.islice(pending, TOGETHER)):
        digests = [graph.digest_of(label) for label in some]
        found = remembered.find_all(digests, doubt) if remembered else [None] * len(some)
        missing = [one for one, known in zip(digests, found, strict=True) if known is None]
        noted = store.actions.noted(missing) if missing else set[Digest]()
        for label, digest, known in zip(some, digests, found, strict=True):
            if known is not None:
                realised[label] = known
            elif digest not in noted:
                fresh.add(label)


def _order(below: _Below, wanted: Iterable[str], realised: Container[str]) -> Iterator[str]:
    """Yield the wanted steps, needed ones first; below realised ones nothing is needed."""
    done: set[str] = set()
    stack = [(label, False) for label in reversed(list(wanted))]
    while stack:
        label, expanded = stack.pop()
        if label in done:
            continue
        if expanded or label in realised:
            done.add(label)
            yield label
            continue
        stack.append((label, True))
        stack += [(need, False) for need in reversed(below.needs_of(label)) if need not in done]


def _step(
    graph: Graph,
    below: _Below,
    label: str,
    steps: Mapping[str, Step],
    store: Store,
    history: History,
    kept: KeptPlan | None,
) -> Step:
    outputs: dict[str, Digest] = {}
    waits: dict[str, None] = {}
    for need in below.needs_of(label):
        match steps[need]:
            case Cached(tree):
                outputs[need] = tree
            case _:
                waits[need] = None
    if waits:
        return Blocked(tuple(waits))

    def outputs_of(need: str) -> Digest:
        return outputs[need] if need in outputs else below.standing.outputs(need)

    recipe = graph.recipes[label]
    try:
        merging = merged if kept is None else kept.merge
        new = history.is_new(label)
        resolved = resolve(store.cas, recipe, outputs_of, new=new, merging=merging)
    except NothingMatchesError as error:
        return Run(str(error))
    return look_up(label, resolved, store, history)


def look_up(label: str, resolved: Resolved, store: Store, history: History) -> Cached | Run:
    """Return the cached outcome of a resolved step, else why it has to run."""
    found = find(resolved, store)
    return found or to_run(resolved, why_run(label, resolved, store, history))


def find(resolved: Resolved, store: Store) -> Cached | None:
    """Return the cached outcome of a resolved step."""
    result = store.actions.lookup(resolved.action, resolved.inputs)
    return None if result is None else Cached(result.outputs, result.action)


def to_run(resolved: Resolved, reason: str) -> Run:
    """Return that a resolved step has to run for this reason."""
    return Run(reason, bytes.fromhex(resolved.action.input_root))


def why_run(label: str, resolved: Resolved, store: Store, history: History) -> str:
    """Return the reason why a step that is not cached has to run."""
    from engine.explain import why_other

    pasts = history.of(label)
    for past in pasts:
        if past.action == resolved.digest:
            return "failed last time" if past.failed else "its result is no longer in the store"
    words = why_other(store.cas, history.actions(pasts), resolved.action)
    if words is None:
        return "never built before"
    return words or "its result is no longer in the store"
