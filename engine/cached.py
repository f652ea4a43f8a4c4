"""Builds in which nothing has to run: told like any other, without the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from engine.begun import Asked, begun
from engine.graph import Graph
from engine.history import History, Past
from engine.plan import Cached, Plan
from engine.result import BuildStatus, Ended, Result
from engine.timeline.events import (
    BuildFinished,
    Event,
    TierDropped,
    cached_together,
)
from store.store import Store


def all_cached(
    build: str,
    graph: Graph,
    plan: Plan,
    store: Store,
    history: History,
    emit: Callable[[Event], None],
    asked: Asked,
    before: Iterable[Event] = (),
) -> Result:
    """Tell of a build all of whose steps are cached and return its result.

    `before` is what happened when it was planned.

    What is to be noted is left for the caller to commit. Raises as `run_build` does.
    """
    started = time.monotonic()
    steps = plan.steps
    emit(begun(build, graph, plan, asked))
    for event in before:
        emit(event)
    ended: dict[str, Ended] = {}
    found = {label: step for label, step in steps.items() if isinstance(step, Cached)}
    news = history.news({label: step.action for label, step in found.items()})
    rows = ((name, it.action, it.outputs, graph.digest_of(name)) for name, it in found.items())
    for event in cached_together(rows):
        emit(event)
    for label in filter(news.__contains__, found):
        store.actions.also(history.note(label, Past(action=found[label].action, build=build)))
    ended.update(found)
    for incident in store.cas.incidents():
        emit(TierDropped(tier=incident.tier, state=incident.state, reason=incident.reason))
    seconds = time.monotonic() - started
    counts = dict.fromkeys(("cached", "built", "failed", "skipped", "cancelled"), 0)
    counts["cached"] = len(ended)
    emit(BuildFinished(build=build, status=BuildStatus.OK, counts=counts, seconds=seconds))
    return Result(build, BuildStatus.OK, ended, seconds)
