"""The plan: which steps are cached, which would run and why, which wait for others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from attrs import field, frozen

from engine.explain import closest, in_words
from engine.graph import Graph
from engine.history import History
from engine.resolve import NothingMatchesError, Resolved, resolve
from store.digest import Digest
from store.objects import Realisation
from store.store import Store


@frozen
class Cached:
    """The step's outputs are in the store."""

    outputs: Digest
    action: Digest


@frozen
class Run:
    """The step would run now, for this reason."""

    reason: str
    resolved: Resolved | None = field(default=None, eq=False, repr=False)


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


def make_plan(graph: Graph, targets: tuple[str, ...], store: Store, history: History) -> Plan:
    """Return the plan for `targets` (step labels): realisations first, then the action cache."""
    realised: dict[str, Realisation] = {}
    wanted: dict[str, None] = {}
    stack = list(reversed(targets))
    while stack:
        label = stack.pop()
        if label in wanted:
            continue
        wanted[label] = None
        found = store.actions.realisation(graph.recipes[label].digest)
        if found:
            realised[label] = found
        else:
            stack.extend(need.recipe for need in graph.recipes[label].needs)
    steps: dict[str, Step] = {}
    for label in graph.order(tuple(wanted)):
        if label in wanted:
            steps[label] = _step(graph, label, realised.get(label), steps, store, history)
    return Plan(targets, steps)


def _step(
    graph: Graph,
    label: str,
    realised: Realisation | None,
    steps: Mapping[str, Step],
    store: Store,
    history: History,
) -> Step:
    if realised:
        return Cached(realised.outputs, realised.action)
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
        resolved = resolve(store.cas, recipe, outputs)
    except NothingMatchesError as error:
        return Run(str(error))
    return look_up(label, resolved, store, history)


def look_up(label: str, resolved: Resolved, store: Store, history: History) -> Cached | Run:
    """Return the cached outcome of a resolved step, else why it has to run."""
    result = store.actions.lookup(resolved.action, resolved.inputs)
    if result is not None:
        return Cached(result.outputs, result.action)
    return Run(why_run(label, resolved, store, history), resolved)


def why_run(label: str, resolved: Resolved, store: Store, history: History) -> str:
    """Return the reason why a step that is not cached has to run."""
    for past in history.of(label):
        if past.action == resolved.digest:
            return "failed last time" if past.failed else "its result is no longer in the store"
    changes = closest(store.cas, history.actions(label), resolved.action)
    if changes is None:
        return "never built before"
    return in_words(changes) or "its result is no longer in the store"
