"""The composition root: opens the store, picks the executor, takes a build from spec to result."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

from engine.ahead import Ahead
from engine.background import Background
from engine.begun import Asked
from engine.cached import all_cached
from engine.delivery import link_of, trees_of
from engine.history import History
from engine.kept_graph import Evaluation
from engine.outcomes import keep, remember
from engine.plan import Cached, Plan, make_plan
from engine.request import Request, prepare
from engine.result import BuildStatus, Mistaken, Result
from engine.signals import uninterrupted
from engine.timeline.events import Event
from engine.timeline.log import TimelineLog, new_build_id
from engine.upkeep import look_after, note_uses
from executors.base import Executor
from store.cas import MissingBlob
from store.digest import Digest
from store.errors import HostError
from store.ingest import RACY_NS
from store.records import field, frozen
from store.roots import artifact_root
from store.spans import span
from store.store import Store

if TYPE_CHECKING:
    from engine.record import Stale
    from engine.remote.sharing import Sharing
    from engine.remote.verify import Verified

_TIMES = itemgetter(0, 1)
"""When a file was modified, and when it was changed, of its signature."""

ATTEMPTS = 3
"""Times that a build is tried whose blobs turn out to be missing or corrupt."""


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


def build(
    store: Store, request: Request, watchers: Sequence[Callable[[Event], None]] = ()
) -> Report:
    """Take a request to its result. Whoever watches is told every event.

    Raises InputError, HostError and IntegrityError; a failed action is part of the report.
    """
    since = None if request.early is None else request.early.since
    with store.lease("build", since) if request.ahead is None else request.ahead.held:
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
            return _build(store, request, watchers, again=attempt > 0)
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
    store: Store, request: Request, watchers: Sequence[Callable[[Event], None]], again: bool
) -> Report:
    """Build. Unless it is done `again`, inputs that nobody may need are not looked for in the
    store: where one turns out to be missing, MissingBlob is raised."""
    stale = _stale(store, request)
    ahead = (None if again else request.ahead) or _ahead(store, request, stale)
    with _collector_at_rest():
        try:
            ahead.begin()
            ready = None if again or request.early is None else request.early.prepared(stale)
            if ready is None:
                ready = prepare(store, request, ahead, stale, again)
            else:
                ahead.start()
                ahead.prepare(ready.evaluation.graph, ready.labels)
            evaluation, plan, sharing = ready.evaluation, ready.plan, ready.sharing
            executor = ahead.executor(plan)
            if executor is None and not all(evaluation.look):
                raise Mistaken
        except BaseException:
            ahead.drop()
            raise
    graph, history, targets = evaluation.graph, ready.history, ready.targets
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
        if len(plan.steps) > len(ready.labels):
            with span("remember"):
                remember(ready.remembered, graph, plan, result)
        with span("commit"):
            roots = [artifact_root(graph.about.package, name, tree) for name, tree in trees.items()]
            rooted = link_of(store, request.link, result, trees)
            was_safe = syncing is None or syncing.result()
            store.actions.commit_with(roots if rooted is None else [*roots, rooted], was_safe)
    except BaseException:  # a second Ctrl-C among them: what was built is kept
        try:
            with uninterrupted():
                store.actions.commit()
        except KeyboardInterrupt:  # it may have come before the commit began
            with uninterrupted():
                store.actions.commit()
            raise
        raise
    return Report(
        result=result,
        evaluation=evaluation,
        targets=targets,
        trees=trees,
        verified=verified,
        rooted=rooted is not None,
        end=None if ready.kept is None else functools.partial(keep, ready.kept, plan, result),
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
    syncing: list[Background[bool]] = []

    def save() -> None:
        syncing.append(store.closing.enter_context(Background(store.cas.sync)))

    try:
        result = run(job, save)
        end = getattr(executor, "leave", end)
    finally:
        end()
    return result, syncing[0]


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
