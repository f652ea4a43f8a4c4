"""The plan: which steps are cached, which would run and why, which wait for others."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from engine.graph import Graph
from engine.history import History
from engine.remembered import Cached as Cached
from engine.remembered import Remembered
from engine.resolve import NothingMatchesError, Resolved, resolve
from store.digest import Digest
from store.records import field, frozen
from store.store import Store

TOGETHER: Final = 1024
"""Steps that are looked for at once."""


@frozen
class Run:
    """The step would run now, for this reason.

    Of the action only the digest of its inputs is kept, as bytes: the rest stands in the recipe.
    """

    reason: str
    input_root: bytes | None = field(default=None, eq=False, repr=False)


@frozen
class Blocked:
    """The step waits for others; whether it runs shows when their outputs are known."""

    waits_for: tuple[str, ...]


Step: TypeAlias = Cached | Run | Blocked


@frozen
class Plan:
    """The steps that the targets need, by label, needed ones first.

    What lies below a cached step is left out: it is not needed.
    """

    targets: tuple[str, ...]
    steps: Mapping[str, Step]


def make_plan(
    graph: Graph,
    targets: tuple[str, ...],
    store: Store,
    history: History,
    remembered: Remembered | None = None,
    *,
    to_show: bool = False,
    doubt: bool = True,
) -> Plan:
    """Return the plan for `targets` (step labels): realisations first, then the action cache.

    Below a step that is not realised, `remembered` is asked before the store is; unless there is
    `doubt`, files that steps came to are then not looked for, but for those of targets. A plan
    `to_show` holds nothing of the actions.
    """
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
            needs = [need.recipe for need in graph.recipes[label].needs]
            stack += needs
            some = [need for need in dict.fromkeys(needs) if need not in wanted]
            if remembered and not doubt:
                others = [need for need in some if need not in ends]
                _look(graph, store, remembered, others, realised, fresh, doubt=False)
            _look(graph, store, remembered, some, realised, fresh)
    history.look(label for label in wanted if label not in realised)
    steps: dict[str, Step] = {}
    for label in _order(graph, wanted, realised):
        step = realised.get(label) or _step(graph, label, steps, store, history)
        steps[label] = Run(step.reason) if to_show and isinstance(step, Run) else step
    return Plan(targets, steps)


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


def _order(graph: Graph, wanted: Iterable[str], realised: Container[str]) -> Iterator[str]:
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
        needs = (need.recipe for need in reversed(graph.recipes[label].needs))
        stack += [(need, False) for need in needs if need not in done]


def _step(
    graph: Graph,
    label: str,
    steps: Mapping[str, Step],
    store: Store,
    history: History,
) -> Step:
    recipe = graph.recipes[label]
    outputs: dict[str, Digest] = {}
    waits: dict[str, None] = {}
    for need in recipe.needs:
        match steps[need.recipe]:
            case Cached(tree):
                outputs[need.recipe] = tree
            case _:
                waits[need.recipe] = None
    if waits:
        return Blocked(tuple(waits))
    try:
        resolved = resolve(store.cas, recipe, outputs.__getitem__, new=history.is_new(label))
    except NothingMatchesError as error:
        return Run(str(error))
    return look_up(label, resolved, store, history)


def look_up(label: str, resolved: Resolved, store: Store, history: History) -> Cached | Run:
    """Return the cached outcome of a resolved step, else why it has to run."""
    result = store.actions.lookup(resolved.action, resolved.inputs)
    if result is not None:
        return Cached(result.outputs, result.action)
    reason = why_run(label, resolved, store, history)
    return Run(reason, bytes.fromhex(resolved.action.input_root))


def why_run(label: str, resolved: Resolved, store: Store, history: History) -> str:
    """Return the reason why a step that is not cached has to run."""
    from engine.explain import closest, in_words

    for past in history.of(label):
        if past.action == resolved.digest:
            return "failed last time" if past.failed else "its result is no longer in the store"
    changes = closest(store.cas, history.actions(label), resolved.action)
    if changes is None:
        return "never built before"
    return in_words(changes) or "its result is no longer in the store"
