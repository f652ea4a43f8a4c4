"""Whole specs given to remotes and taken from them, for `bn push` and `bn pull`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.durations import durations
from engine.graph import Graph
from engine.remote.lookup import realise
from engine.remote.remotes import Remotes
from engine.remote.trust import is_mine
from engine.remote.uploads import Item
from engine.timeline.events import RemoteFound
from store.digest import Digest
from store.objects import Directory, File
from store.presence import is_whole
from store.records import frozen
from store.store import Store
from store.upstream import UNKNOWN


@frozen(kw_only=True)
class Pulled:
    """What a pull came to: results that came now, those that are here, and steps that nobody has a
    result of."""

    found: int
    here: int
    missing: tuple[str, ...]


def pushable(store: Store, graph: Graph, labels: Sequence[str]) -> tuple[list[Item], list[str]]:
    """Return the results of `labels` and of all that they rest on, as far as they are in this
    store, and the steps that have none."""
    by_action: dict[Digest, Item] = {}
    took = durations(store.index)
    without = []
    for label in graph.order(tuple(labels)):
        recipe = graph.digest_of(label)
        made = store.actions.realisation(recipe)
        result = None if made is None else store.actions.result_of(made.action)
        if made is None or result is None or result.outputs != made.outputs:
            without.append(label)
            continue
        before = by_action.get(result.action)
        recipes = (*before.recipes, recipe) if before else (recipe,)
        by_action[result.action] = Item(
            result, recipes, is_mine(store, result), took.get(result.action, 0.0)
        )
    return list(by_action.values()), without


def pull(remotes: Remotes, store: Store, graph: Graph, labels: Sequence[str]) -> Pulled:
    """Fetch the results of `labels` and of all that they rest on, with all blobs. Raises HostError
    where the store cannot be written."""
    events = realise(remotes, graph, labels, store, everything=True)
    found = sum(len(event.labels) for event in events if isinstance(event, RemoteFound))
    remotes.bring(_parts(store, graph, labels))
    store.cas.forget_known()
    missing = []
    order = graph.order(tuple(labels))
    for label in order:
        made = store.actions.realisation(graph.digest_of(label))
        if made is None or not is_whole(store.cas, made.outputs):
            missing.append(label)
    store.actions.commit()
    return Pulled(found=found, here=len(order) - len(missing), missing=tuple(missing))


def _parts(store: Store, graph: Graph, labels: Sequence[str]) -> Iterator[Directory | File]:
    """Yield what the results consist of that are known."""
    for label in graph.order(tuple(labels)):
        made = store.actions.realisation(graph.digest_of(label))
        if made is not None:
            yield Directory(made.outputs)
            result = store.actions.result_of(made.action)
            if result is not None:
                yield File(result.log, UNKNOWN)
