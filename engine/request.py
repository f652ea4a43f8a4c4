"""Requests: what the user asked for, taken to what there is to do for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.ahead import MOST_ASKED, Ahead
from engine.graph import Graph
from engine.helped import helped
from engine.history import History
from engine.kept_graph import Evaluation, KeptGraph
from engine.kept_plan import KeptPlan
from engine.plan import Plan, make_plan
from engine.remembered import Remembered
from engine.spec.faults import shown
from executors.base import HERMETIC, NATIVE
from store.errors import InputError
from store.ingest import Signature
from store.records import field, frozen
from store.spans import span
from store.store import Store

if TYPE_CHECKING:
    from engine.job import Job
    from engine.record import Stale
    from engine.remote.sharing import Sharing
    from engine.seats import Seats
    from engine.spec.project import Unit
    from engine.watch.early import Early

ISOLATION = {"sandbox": HERMETIC, "bubblewrap": HERMETIC, "native": NATIVE}
"""The executors by name: the sandbox behind a fork server, one bubblewrap for each action, none."""


@frozen(kw_only=True)
class Request:
    """What the user asked for."""

    spec: Path
    targets: tuple[str, ...] = ()
    sets: Mapping[str, str] = field(factory=dict)
    profile: str | None = None
    tests: bool = False
    executor: str = "sandbox"
    jobs: int | None = None
    strategy: str | None = None
    """How nodes are chosen, instead of what is configured; likewise `mode`."""
    mode: str | None = None
    keep_going: bool = False
    keep_failed: bool = False
    remote: bool = True
    """Whether remote caches may be used."""
    download: str = "toplevel"
    """What is fetched from them: `all`, `toplevel` or `minimal`."""
    verify: int | Literal["all"] | None = None
    """How many of the results that they give are built again here and compared."""
    around: Callable[[Job, Seats], Seats] | None = None
    """Makes seats that stand in front of the build's: a debugger's."""
    stale: Stale | None = None
    """What has changed since the last build, where somebody has just looked."""
    ahead: Ahead | None = None
    """What was started for it already, with the build's lease; its maker drops what is not used."""
    early: Early | None = None
    """What was worked out for it before anybody asked."""
    link: Path | None = None
    """Where a link to the result is made afterwards: it is noted as a root with the results."""


@frozen(eq=False)
class Prepared:
    """What there is to do for a request: the graph, the steps that are asked for, the plan, and
    what that was made with."""

    evaluation: Evaluation
    targets: tuple[str, ...]
    labels: tuple[str, ...]
    history: History
    remembered: Remembered
    kept: KeptPlan | None
    plan: Plan
    sharing: Sharing | None


def evaluated(
    store: Store,
    request: Request,
    doubt: bool = True,
    changed: Callable[[], None] = lambda: None,
    anew: Callable[[bool], None] = lambda wide: None,
    stale: Stale | None = None,
) -> Evaluation:
    """Evaluate the request's spec; without `doubt` files that did not change are taken to be in
    the store, what `stale` tells of files is believed, and there may be something to `look` at
    later. As soon as it turns out that a source's files changed and nothing else, `changed` is
    called; for `anew` see `engine.evaluate`."""
    wanted, isolation = _wanted(request), ISOLATION[request.executor]
    kept = KeptGraph(store, *wanted, isolation)
    known = _recalled(kept, request, doubt, changed, stale)
    if known is not None:
        return known
    with helped(store, kept):
        from engine.evaluate import evaluate

        return evaluate(store, *wanted, isolation, kept, anew)


def _wanted(request: Request) -> tuple[Path, Mapping[str, str], str | None]:
    return request.spec, request.sets, request.profile


def _recalled(
    kept: KeptGraph,
    request: Request,
    doubt: bool,
    changed: Callable[[], None],
    stale: Stale | None,
) -> Evaluation | None:
    def load() -> Unit:
        from engine.spec.project import load_project

        return load_project(*_wanted(request))

    def told() -> Mapping[str, Signature]:
        return {} if doubt or stale is None else stale.others()

    return kept.recall(load, doubt, changed, told, later=not doubt)


def targets_of(graph: Graph, request: Request) -> tuple[str, ...]:
    """Return the targets of a request; raises InputError where there are none."""
    if request.targets:
        return request.targets
    targets = graph.tests() if request.tests else graph.default_targets()
    if not targets:
        what = 'tests: actions with kind = "test"' if request.tests else "actions to build"
        raise InputError(f"{shown(graph.about.spec)}: there are no {what}")
    return targets


def labels_of(graph: Graph, targets: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of all the steps that make up `targets`."""
    return tuple(dict.fromkeys(label for t in targets for label in graph.labels_of(t)))


def planned(store: Store, request: Request) -> tuple[Evaluation, Plan]:
    """Evaluate and plan, and run nothing."""
    evaluation = evaluated(store, request)
    labels = labels_of(evaluation.graph, targets_of(evaluation.graph, request))
    history = History(store, evaluation.graph.about.spec)
    sharing = _sharing(store, request)
    if sharing is None:
        return evaluation, make_plan(evaluation.graph, labels, store, history, to_show=True)
    sharing.before_plan(evaluation.graph, labels)
    plan = make_plan(evaluation.graph, labels, store, history)
    return evaluation, sharing.after_plan(evaluation.graph, plan)


def prepare(
    store: Store, request: Request, ahead: Ahead, stale: Stale | None, again: bool
) -> Prepared:
    """Evaluate and plan for a build, or, as the first try failed, for one `again`: then nothing is
    taken for granted. What is likely to be needed is started `ahead`."""
    doubt = again or store.cas.upstream is not None
    with span("evaluate"):
        evaluation = evaluated(store, request, doubt, ahead.start, ahead.load, stale)
    return _prepared(store, request, evaluation, ahead, doubt, again)


def prepare_early(store: Store, request: Request, stale: Stale) -> Prepared | None:
    """Evaluate and plan for a build that nobody has asked for yet: nothing is started, loaded or
    fetched for it. None where more than contents of files changed, or where it takes so long that
    who asks meanwhile would wait longer than it saves."""
    kept = KeptGraph(store, *_wanted(request), ISOLATION[request.executor])
    if kept.is_large:
        return None
    evaluation = _recalled(kept, request, False, lambda: None, stale)
    if evaluation is None:
        return None
    ready = _prepared(store, request, evaluation, None, doubt=False, again=False)
    ready.plan.standing.get_ready()
    others = (label for label in ready.plan.others if not ready.plan.is_cached(label))
    for label in itertools.islice(others, MOST_ASKED):  # as soon as the build begins
        ready.history.of(label)
        ready.evaluation.graph.recipes[label]
    return ready


def _prepared(
    store: Store,
    request: Request,
    evaluation: Evaluation,
    ahead: Ahead | None,
    doubt: bool,
    again: bool,
) -> Prepared:
    graph = evaluation.graph
    targets = targets_of(graph, request)
    labels = labels_of(graph, targets)
    history = History(store, graph.about.spec)
    remembered = Remembered(store, graph.about.package)
    sharing = _sharing(store, request)
    if sharing is not None:
        with span("ask the remotes"):
            sharing.before_plan(graph, labels, remembered)
    if ahead is not None:
        ahead.prepare(graph, labels)
    with span("plan", steps=len(graph.recipes)):
        kept = KeptPlan.of(store, graph) if again or not doubt else None
        trusted = None if doubt else kept
        plan = make_plan(graph, labels, store, history, remembered, doubt=doubt, kept=trusted)
        remembered.put_by()
    if sharing is not None:
        with span("ask the remotes"):
            plan = sharing.after_plan(graph, plan)
    return Prepared(evaluation, targets, labels, history, remembered, kept, plan, sharing)


def _sharing(store: Store, request: Request) -> Sharing | None:
    """Return the part of remote caches in a build, None where it has none: what ran without
    isolation is nobody else's."""
    if store.cas.upstream is None:
        return None
    from engine.remote.remotes import Remotes

    if not request.remote or ISOLATION[request.executor] != HERMETIC:
        store.cas.upstream.close()
        store.cas.upstream = None
    remotes = store.cas.upstream
    if not isinstance(remotes, Remotes):
        return None
    from engine.remote.sharing import Sharing

    return Sharing(store, remotes, request.download, verifying=request.verify is not None)
