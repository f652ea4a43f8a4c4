"""The composition root: opens the store, picks the executor, takes a build from spec to result."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.ahead import Ahead
from engine.background import Background
from engine.begun import Asked
from engine.cached import all_cached
from engine.delivery import link_of, trees_of
from engine.graph import Graph
from engine.helped import helped
from engine.history import History
from engine.kept_graph import Evaluation, KeptGraph
from engine.kept_plan import KeptPlan
from engine.outcomes import keep, remember
from engine.plan import Cached, Plan, make_plan
from engine.remembered import Remembered
from engine.result import BuildStatus, Mistaken, Result
from engine.signals import uninterrupted
from engine.spec.faults import shown
from engine.timeline.events import Event
from engine.timeline.log import TimelineLog, new_build_id
from engine.upkeep import look_after, note_uses
from executors.base import HERMETIC, NATIVE, Executor
from store.cas import MissingBlob
from store.digest import Digest
from store.errors import HostError, InputError
from store.ingest import RACY_NS, Signature
from store.records import field, frozen
from store.roots import artifact_root
from store.spans import span
from store.store import Store

if TYPE_CHECKING:
    from engine.job import Job
    from engine.record import Stale
    from engine.remote.sharing import Sharing
    from engine.remote.verify import Verified
    from engine.seats import Seats
    from engine.spec.project import Unit

ISOLATION = {"sandbox": HERMETIC, "bubblewrap": HERMETIC, "native": NATIVE}
"""The executors by name: the sandbox behind a fork server, one bubblewrap for each action, none."""

_TIMES = itemgetter(0, 1)
"""When a file was modified, and when it was changed, of its signature."""

MOST_ASKED = 8
"""Steps that are looked up to tell whether a build will run something."""

ATTEMPTS = 3
"""Times that a build is tried whose blobs turn out to be missing or corrupt."""


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
    link: Path | None = None
    """Where a link to the result is made afterwards: it is noted as a root with the results."""


@frozen(kw_only=True)
class Report:
    """What came of a request: the result, what was evaluated, and the tree of each target."""

    result: Result
    evaluation: Evaluation
    targets: tuple[str, ...]
    trees: Mapping[str, Digest]
    verified: Verified | None = None
    rooted: bool = False
    """Whether the request's link was noted as a root."""
    end: Callable[[], None] | None = field(default=None, eq=False, repr=False)
    """What is to be done when all else is written."""

    @property
    def up_to_date(self) -> bool:
        """Say whether nothing had to run."""
        result = self.result
        return result.status is BuildStatus.OK and result.count(Cached) == len(result.steps)


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
    isolation = ISOLATION[request.executor]
    wanted = (request.spec, request.sets, request.profile)

    def load() -> Unit:
        from engine.spec.project import load_project

        return load_project(*wanted)

    kept = KeptGraph(store, *wanted, isolation)

    def told() -> Mapping[str, Signature]:
        return {} if doubt or stale is None else stale.others()

    known = kept.recall(load, doubt, changed, told, later=not doubt)
    if known is not None:
        return known
    with helped(store, kept):
        from engine.evaluate import evaluate

        return evaluate(store, *wanted, isolation, kept, anew)


def _stale(store: Store, request: Request) -> Stale | None:
    """Return what has changed since the last build, where somebody has just looked or a watcher
    knows."""
    if request.stale is not None or not (store.root / "watch" / "socket").is_socket():
        return request.stale
    from engine.watch.told import told

    return told(str(store.root))


def _ahead(store: Store, request: Request, stale: Stale | None) -> Ahead:
    """Return what starts early what a request may need."""
    will_run = None if stale is None else stale.will_run
    return Ahead(store, request.executor, request.spec, will_run)


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


def build(
    store: Store, request: Request, watchers: Sequence[Callable[[Event], None]] = ()
) -> Report:
    """Take a request to its result. Whoever watches is told every event.

    Raises InputError, HostError and IntegrityError; a failed action is part of the report.
    """
    with store.lease("build") if request.ahead is None else request.ahead.held:
        report = _build_at_last(store, request, watchers)
    with span("upkeep"):
        look_after(store, report.result.build)
    if report.end is not None:
        with span("remember"):
            report.end()
    return report


def _build_at_last(
    store: Store, request: Request, watchers: Sequence[Callable[[Event], None]]
) -> Report:
    """Build, again where blobs turn out to be missing or another tier took a failed one's place."""
    for attempt in range(ATTEMPTS):
        primary = store.cas.primary
        try:
            return _build(store, request, watchers, doubt=attempt > 0)
        except MissingBlob:
            if attempt == ATTEMPTS - 1:
                raise
            if store.cas.upstream is not None:
                store.cas.upstream.doubt(altogether=attempt > 0)
        except Mistaken:
            if attempt:  # nothing was taken for granted
                raise
        except HostError as error:
            replaced = store.cas.primary is not primary or store.cas.reconsider(error)
            if attempt == ATTEMPTS - 1 or not replaced:
                raise
    raise AssertionError


def _build(
    store: Store, request: Request, watchers: Sequence[Callable[[Event], None]], doubt: bool
) -> Report:
    """Build. Unless there is `doubt`, inputs that nobody may need are not looked for in the store:
    where one turns out to be missing, MissingBlob is raised."""
    again, doubt = doubt, doubt or store.cas.upstream is not None
    stale = _stale(store, request)
    ahead = (None if again else request.ahead) or _ahead(store, request, stale)
    with _collector_at_rest():
        try:
            ahead.begin()
            with span("evaluate"):
                evaluation = evaluated(store, request, doubt, ahead.start, ahead.load, stale)
            graph = evaluation.graph
            targets = targets_of(graph, request)
            labels = labels_of(graph, targets)
            history = History(store, graph.about.spec)
            package = graph.about.package
            remembered = Remembered(store, package)
            sharing = _sharing(store, request)
            if sharing is not None:
                with span("ask the remotes"):
                    sharing.before_plan(graph, labels, remembered)
            ahead.prepare(graph, labels[:MOST_ASKED])
            with span("plan", steps=len(graph.recipes)):
                kept = KeptPlan.of(store, graph) if again or not doubt else None
                trusted = None if doubt else kept
                plan = make_plan(
                    graph, labels, store, history, remembered, doubt=doubt, kept=trusted
                )
                remembered.put_by()
            if sharing is not None:
                with span("ask the remotes"):
                    plan = sharing.after_plan(graph, plan)
            executor = ahead.executor(plan)
            if executor is None and not all(evaluation.look):
                raise Mistaken
        except BaseException:
            ahead.drop()
            raise
    build_id = new_build_id()
    log = TimelineLog(store.root, build_id)

    def emit(event: Event) -> None:
        log(event)
        for watcher in watchers:
            watcher(event)

    verified = syncing = None
    try:
        try:
            if executor is None:
                before = sharing.take_events() if sharing is not None else ()
                result = all_cached(
                    build_id, graph, plan, store, history, emit, _asked(request), before
                )
            else:
                with span("run"):
                    result, syncing = _run(
                        build_id, evaluation, plan, store, history, request, executor, emit, sharing
                    )
            if sharing is not None:
                with span("fetch"):
                    sharing.deliver(graph, targets, result)
                for event in sharing.take_events():
                    emit(event)
                verified = _verified(build_id, evaluation, store, history, request, sharing, result)
            trees = trees_of(store, graph, targets, result)
            with span("note uses"):
                # now, so that it takes no transaction of its own
                note_uses(store, emit, result.seconds)
        finally:
            store.index.later([log.close()])
        if len(plan.steps) > len(labels):
            with span("remember"):
                remember(remembered, graph, plan, result)
        with span("commit"):
            roots = [artifact_root(package, name, tree) for name, tree in trees.items()]
            rooted = link_of(store, request.link, result, trees)
            was_safe = syncing is None or syncing.result()
            store.actions.commit_with(roots if rooted is None else [*roots, rooted], was_safe)
    except BaseException:  # a second Ctrl-C among them: what was built is kept
        with uninterrupted():
            store.actions.commit()
        raise
    return Report(
        result=result,
        evaluation=evaluation,
        targets=targets,
        trees=trees,
        verified=verified,
        rooted=rooted is not None,
        end=None if kept is None else functools.partial(keep, kept, plan, result),
    )


def _asked(request: Request) -> Asked:
    return Asked(
        command=tuple(sys.argv[1:]),
        sets=request.sets,
        profile=request.profile,
        executor=request.executor,
    )


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Let no garbage be looked for while a graph is made, which stays, and leaves none."""
    working = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if working:
            gc.enable()


def _run(
    build: str,
    evaluation: Evaluation,
    plan: Plan,
    store: Store,
    history: History,
    request: Request,
    executor: Executor,
    emit: Callable[[Event], None],
    sharing: Sharing | None,
) -> tuple[Result, Background[bool]]:
    """Run what the plan says has to run; return also what makes safe what came of that, by now: it
    has ended when the store is closed."""
    from engine.job import Job, Options
    from engine.modes import run
    from engine.places import places

    options = Options(
        places=places(store.root, request.jobs, request.strategy, request.mode),
        keep_going=request.keep_going,
        keep_failed=request.keep_failed,
        sharing=sharing,
        asked=_asked(request),
        around=request.around,
        look=evaluation.look,
    )
    job = Job(
        build=build,
        graph=evaluation.graph,
        plan=plan,
        store=store,
        executor=executor,
        history=history,
        options=options,
        emit=emit,
    )
    end = executor.close
    try:
        result = run(job)
        syncing = store.closing.enter_context(Background(store.cas.sync))
        end = getattr(executor, "leave", end)
    finally:
        end()
    return result, syncing


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


def _verified(
    build: str,
    evaluation: Evaluation,
    store: Store,
    history: History,
    request: Request,
    sharing: Sharing,
    result: Result,
) -> Verified | None:
    """Where that is asked for, build a sample of what remotes gave again, and compare. Raises
    RemoteDiffers."""
    if request.verify is None or result.status is BuildStatus.INTERRUPTED:
        return None
    from engine.picking import make_executor
    from engine.places import places
    from engine.remote.verify import verify

    graph = evaluation.graph

    def silent(_: Event) -> None:
        pass

    def build_here(labels: Sequence[str]) -> Result:
        plan = make_plan(graph, tuple(labels), store, history)
        executor = Ahead(store, request.executor).executor(plan)
        if executor is None:
            return all_cached(build, graph, plan, store, history, silent, _asked(request))
        ran = _run(build, evaluation, plan, store, history, request, executor, silent, sharing)
        return ran[0]

    with span("verify"):
        found = verify(
            build,
            graph,
            store,
            sharing.taken,
            request.verify,
            build_here,
            lambda: make_executor(request.executor, store),
            places(store.root, request.jobs, request.strategy, request.mode).cpus,
        )
    sharing.believe()
    return found


def recordable(evaluation: Evaluation) -> bool:
    """Say whether the signatures that an evaluation saw can be trusted to tell a later change."""
    limit = evaluation.taken_ns - RACY_NS
    times = chain.from_iterable(map(_TIMES, evaluation.watched.values()))
    return max(times, default=0) < limit
