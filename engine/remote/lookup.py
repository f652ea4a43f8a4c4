"""Remotes asked for a whole build: as few questions as there are rounds of answers.

::

    targets' recipes ──hit──▶ nothing below is needed
          └─miss─▶ all recipes below, at once ─miss─▶ plan ─▶ actions that would run, at once
                                                               └─ later those that become known
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from engine.graph import Graph
from engine.plan import Cached, Plan, Run, Step
from engine.remembered import Remembered
from engine.remote.found import Found, Needed
from engine.remote.remotes import Remotes
from engine.resolve import Resolved, with_inputs
from engine.timeline.events import Event, RemoteFound
from store.digest import Digest
from store.store import Store


def realise(
    remotes: Remotes,
    graph: Graph,
    labels: Sequence[str],
    store: Store,
    remembered: Remembered | None = None,
    *,
    everything: bool = False,
) -> Iterator[Event]:
    """Ask for what the steps `labels` came to, then for all that they rest on where they came to
    nothing; with `everything` for that in any case. Keep it, and yield what is to be told."""
    unknown = _unknown(graph, labels, store, remembered)
    if unknown and not everything:
        yield from _ask(remotes, graph, unknown)
        unknown = _unknown(graph, unknown, store, None)
    below: dict[str, None] = dict.fromkeys(unknown) if everything else {}
    seen = {*labels}
    level = list(labels if everything else unknown)
    while level:
        needs = dict.fromkeys(need for label in level for need in graph.needs_of(label))
        fresh = [need for need in needs if need not in seen]
        seen.update(fresh)
        missing = _unknown(graph, fresh, store, remembered)
        below |= dict.fromkeys(missing)
        level = fresh if everything else missing
    if not below:
        return

    def needed(found: Iterable[Digest]) -> set[Digest]:
        """Return what is reached from the targets without passing by something else that is."""
        there, reached = set(found), set[Digest]()
        stack, seen = list(unknown), set(unknown)
        while stack:
            label = stack.pop()
            digest = graph.digest_of(label)
            if digest in there:
                reached.add(digest)
                continue
            needs = [need for need in graph.needs_of(label) if need not in seen and need in below]
            seen.update(needs)
            stack += needs
        return reached

    yield from _ask(remotes, graph, list(below), set if everything else needed)


def settle(remotes: Remotes, graph: Graph, plan: Plan, store: Store) -> tuple[Plan, list[Event]]:
    """Ask for the results of the actions that would run; return the plan in which those that some
    remote has are cached, and what is to be told."""
    ready = {
        label: resolved_of(store, graph, label, step)
        for label, step in plan.steps.items()
        if isinstance(step, Run) and step.input_root is not None
    }
    if not ready:
        return plan, []
    found = remotes.results(list({one.digest: None for one in ready.values()}))
    taken: dict[str, Step] = {
        label: keep(remotes, store, found[resolved.digest], resolved)
        for label, resolved in ready.items()
        if resolved.digest in found
    }
    labels = {label: found[ready[label].digest] for label in taken}
    return Plan(plan.targets, {**plan.steps, **taken}), list(told(labels))


def resolved_of(store: Store, graph: Graph, label: str, step: Run) -> Resolved:
    """Return the action that a step would run."""
    assert step.input_root is not None
    return with_inputs(store.cas, graph.recipes[label], Digest(step.input_root.hex()))


def keep(remotes: Remotes, store: Store, found: Found, resolved: Resolved) -> Cached:
    """Keep the result of an action that some remote has, and return what its step came to."""
    remotes.keep_parts(found)
    store.actions.record(resolved.action, found.result, resolved.inputs)
    return Cached(found.result.outputs, resolved.digest)


def told(found: Mapping[str, Found]) -> Iterator[Event]:
    """Yield the events of what was found, by label."""
    by_remote: dict[str, list[str]] = {}
    for label, one in found.items():
        by_remote.setdefault(one.remote, []).append(label)
    for remote, labels in by_remote.items():
        seconds = max(found[label].seconds for label in labels)
        yield RemoteFound(remote=remote, labels=tuple(labels), seconds=seconds)


def _ask(
    remotes: Remotes, graph: Graph, labels: Iterable[str], needed: Needed = set
) -> Iterator[Event]:
    recipes = {label: graph.digest_of(label) for label in labels}
    found = remotes.realise(list(dict.fromkeys(recipes.values())), needed)
    yield from told({label: found[one] for label, one in recipes.items() if one in found})


def _unknown(
    graph: Graph, labels: Sequence[str], store: Store, remembered: Remembered | None
) -> list[str]:
    """Return those steps of which this store does not know what they came to."""
    digests = [graph.digest_of(label) for label in labels]
    found = remembered.find_all(digests) if remembered else [None] * len(digests)
    left = [
        (label, digest)
        for label, digest, known in zip(labels, digests, found, strict=True)
        if known is None
    ]
    noted = store.actions.noted(digest for _, digest in left) if left else set()
    return [
        label
        for label, digest in left
        if digest not in noted or store.actions.realisation(digest) is None
    ]
