"""The build loop: one task owns all mutable state, decides, and starts executions.

::

    waiting ──needs known──▶ (look-up) ──hit──▶ Cached
       │                        └──miss──▶ ready ──placed──▶ running ──▶ Built | Failed
       └──a need failed──▶ Skipped              on interrupt: Cancelled ◀──┘
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from engine.beside import commit_often, look_again, watch_signals
from engine.committing import Commits
from engine.crew import Crew, InTurn, SideBySide, in_order
from engine.execution import blame, execute, finished, unless_inputs_changed
from engine.finished import Finished, Running
from engine.graph import Graph
from engine.job import Job, Options
from engine.ledger import Later, Ledger
from engine.losses import Losses
from engine.makespan import Clock, Took
from engine.outcomes import Outcomes
from engine.places import Places
from engine.plan import Cached, Plan, Run, find, to_run, why_run
from engine.prefetch import Prefetch
from engine.resolve import NothingMatchesError, resolve, with_inputs
from engine.result import BuildStatus, Built, Cancelled, Failed, Mistaken, Result, Skipped
from engine.seating import begins_ahead, seats_for
from engine.seats import Seats, Turn
from engine.untold import Untold
from engine.upkeep import load
from engine.waits import Pending, Waits
from executors.base import Outcome
from store.digest import Digest
from store.errors import BnError
from store.records import define, field
from store.store import Store

if TYPE_CHECKING:
    import trio

    from engine.remote.sharing import Sharing


@define(eq=False)
class Loop:
    """The mutable state of one build."""

    job: Job
    graph: Graph = field(init=False)
    plan: Plan = field(init=False)
    store: Store = field(init=False)
    options: Options = field(init=False)
    ledger: Ledger = field(init=False)
    waits: Waits = field(init=False)
    ended: Outcomes = field(init=False)
    places: Places = field(init=False)
    seats: Seats = field(init=False)
    took: Clock = field(init=False)
    room: int = 0
    """Processors, where steps are begun before there are some for them."""
    peaks: dict[str, int] = field(factory=dict)
    """Bytes of memory that steps took last."""
    clock: Callable[[], float] = field(default=time.monotonic)
    started: float = 0.0
    began: float = 0.0
    """When it began: by `time.monotonic`, and by the clock of the seats."""
    running: dict[Digest, Running] = field(factory=dict)
    settled: deque[str] = field(factory=deque)
    finished: Finished = field(init=False)
    losses: Losses = field(factory=Losses)
    untold: Untold = field(init=False)
    prefetch: Prefetch = field(init=False)
    interrupted: bool = False
    error: Exception | None = None
    first_failure: str | None = None
    crew: Crew = field(factory=InTurn)
    commits: Commits = field(init=False)

    def __attrs_post_init__(self) -> None:
        job = self.job
        self.graph, self.plan, self.store = job.graph, job.plan, job.store
        self.options, self.ledger = job.options, Ledger(job)
        self.commits, self.prefetch = Commits(job.store.actions), Prefetch(job.store.cas)
        self.places = job.places
        if self.prefetch.is_useful:  # it is told of each step
            self.plan = Plan(self.plan.targets, {**self.plan.steps})
        self.waits = Waits(self.plan.others, self._needs, self._seconds)
        self.ended = Outcomes(self.waits.labels, self.waits.numbers, self.plan.standing)
        self.untold = Untold(self.ledger, self.plan)
        self.finished = Finished(len(self.waits.labels))
        self.took = Clock(self.places.nodes)
        seats = seats_for(job, self.peaks, self._pending(), self.waits)
        self.room = self.places.nodes[0].cpus if begins_ahead(job) else 0
        self.seats = seats if job.options.around is None else job.options.around(job, seats)

    def _pending(self) -> Mapping[str, Iterable[str]]:
        """Return what may have to run, needed ones first, with what each needs."""
        return Pending(self.plan, self.graph.needs_of)

    async def run(
        self, *, alone: bool = False, save: Callable[[], object] | None = None
    ) -> Result | None:
        """Run all that has to run and return what came of it. As soon as that is done it is
        committed, or the caller may `save` it.

        It is None where that was to be done `alone`, without trio, and takes so long that others
        could run meanwhile: then this is to be called again, in trio.
        """
        if not self.started:
            self._begin(alone)
        try:
            await self._run_all(alone)
        except BaseException:
            self._close(self.store.actions.commit)
            raise
        if self._is_behind():
            return None
        self._close(save or self.store.actions.commit)
        seconds = time.monotonic() - self.started
        makespan = self.took.makespan(self._pending(), self.waits.numbers)
        result = Result(self.job.build, self._status(), self.ended, seconds, makespan)
        self.ledger.ends(result)
        return result

    def _begin(self, alone: bool) -> None:
        self.started = time.monotonic()
        if not alone:
            import trio

            self.clock = self.seats.clock = trio.current_time
        self.began = self.clock()
        self.ledger.begins()
        if self.places.thermometer is not None:
            self.seats.warm(self.places.thermometer.read())
        cached: dict[str, Cached] = {}
        for label, step in self.plan.others.items():
            if isinstance(step, Cached):
                cached[label] = step
            elif not self.waits.is_waiting(label):
                self.settled.append(label)
            elif self.prefetch.is_useful:
                self.prefetch.later(self.graph.recipes[label], self.waits.rank(label))
        self.untold.cached(cached)

    def _close(self, save: Callable[[], object]) -> None:
        self.prefetch.close()
        self.ledger.look(self.prefetch)
        self.seats.close()
        self._end_rest()
        save()

    def _is_behind(self) -> bool:
        return self.crew.is_behind and not self.interrupted and self.error is None

    def _status(self) -> BuildStatus:
        if self.ended.count(Cancelled):
            return BuildStatus.INTERRUPTED
        return BuildStatus.FAILED if self.first_failure else BuildStatus.OK

    def _needs(self, label: str) -> Iterable[str]:
        return () if self.plan.is_cached(label) else self.graph.needs_of(label)

    def _seconds(self, label: str) -> float:
        if self.plan.is_cached(label):
            return 0.0
        seconds, peak = self.job.history.cost(label, neutral=self.places.neutral)
        if peak:
            self.peaks[label] = peak
        return seconds

    async def _run_all(self, alone: bool) -> None:
        if alone:
            await self._run_in_turn()
        else:
            self._look_at_the_rest()
            self._tell_cached()
            if not self.error:
                await self._run_side_by_side()
        if not self._is_behind():
            self._look_at_the_rest()
        if self.error:
            raise self.error

    def _look(self) -> bool:
        """Look at some of what was taken for granted; say whether there may be more."""
        found = None if self.interrupted else next(self.options.look, None)
        if found is False:
            self.error = self.error or Mistaken()
        return bool(found)

    def _look_at_the_rest(self) -> None:
        """Look at what was taken for granted and nobody looked at yet."""
        while self._look():
            pass

    def _tell_cached(self) -> None:
        """Tell of the steps that are cached to begin with, and go on with what waited for them."""
        for label, step in self.untold.tell_cached().items():
            self._end(label, step)

    async def _run_in_turn(self) -> None:
        """Run without trio: nothing goes on besides the one execution but commits. The first one
        that can run does so before all the cached steps are told of."""
        from executors.waiting import Interrupted, meanwhile

        later = Later(meanwhile)
        now, self.ledger.then = self.ledger.then, later.then

        chores = iter((self._look, self.store.sweep, load))

        def before_wait() -> None:
            if self.untold.is_started:
                meanwhile(self.untold.tell_started)
            later.then(self.commits.if_due)
            for chore in chores:
                meanwhile(chore)

        meanwhile(self._tell_cached)
        self.untold.alone = True
        try:
            try:
                await self._decide(before_wait)
            except Interrupted as interrupted:
                self.untold.tell_started()
                self._interrupt(interrupted.number)
            finally:
                self.untold.tell_started()
                self.untold.alone = False
                self.ledger.then = now
                try:
                    later.finish()
                finally:
                    self.commits.finish()
        except BnError as error:
            self.error = error
        self._tell_cached()

    async def _run_side_by_side(self) -> None:
        import trio

        async with trio.open_nursery() as nursery:
            rest = self.crew.take_rest()
            self.crew = crew = SideBySide(nursery)
            scope = nursery.cancel_scope
            nursery.start_soon(commit_often, self.commits, lambda error: self._stop(error, scope))
            nursery.start_soon(look_again, self.places, self.seats, crew.wake)
            await nursery.start(watch_signals, lambda number: self._interrupt(number, scope))
            for execution in rest:
                crew.start(execution)
            try:
                await self._decide()
            except BnError as error:
                self.error = error
            scope.cancel()

    async def _decide(self, before_wait: Callable[[], None] = lambda: None) -> None:
        """Start what may start and take in what ended, until nothing runs."""
        sharing = self.options.sharing
        while True:
            while self.settled:
                self._look_at(self.settled.popleft())
            if sharing is not None:
                sharing.ask(self.crew)
            if self.first_failure is None or self.options.keep_going:
                self._place()
            self.ledger.look(self.prefetch)
            if self.settled:
                continue
            asking = sharing is not None and sharing.is_asking
            if not self.running and not asking and not self.seats.is_waiting():
                return
            if self._is_behind():
                return
            before_wait()
            endings = await self.crew.ended()
            self.untold.tell_started()
            self._tell_cached()
            for digest, outcome in in_order(endings, self.running):
                if sharing is not None and sharing.is_question(digest):
                    self._answered(sharing, digest, outcome)
                else:
                    self._ended(self.running.pop(digest), outcome)
            if self.error:
                return

    def _ended(self, running: Running, outcome: Outcome | Exception | None) -> None:
        """Take in what came of an execution; one whose node did not let it end runs again."""
        if isinstance(outcome, Outcome) and self.losses.may_run_again(running, outcome):
            label, turn = running.labels[0], running.turn
            self.seats.lost(turn)
            self.job.emit(finished(label, running.resolved.digest, outcome))
            self.seats.add(label, self.waits.rank(label), turn.reason, turn.input_root)
            return
        self.untold.ended(running.labels[0])
        self.seats.end(running.turn, blame(outcome))
        if isinstance(outcome, Exception):
            self.error = self.error or outcome
        elif outcome is not None:
            self._take_in(running, outcome)

    def _answered(
        self, sharing: Sharing, question: Digest, outcome: Outcome | Exception | None
    ) -> None:
        """Go on with steps for which remotes were asked."""
        if isinstance(outcome, Exception):
            self.error = self.error or outcome
        for (label, _, step), found in sharing.answered(question):
            if found is None:
                self._make_ready(label, step)
            else:
                self.ledger.realised(label, found.action, found.outputs)
                self._cached(label, found)

    def _stop(self, why: BnError, scope: trio.CancelScope) -> None:
        """End the build early, as something failed."""
        self.error = self.error or why
        scope.cancel()

    def _interrupt(self, number: int, scope: trio.CancelScope | None = None) -> None:
        """End the build early, as a signal asks for it."""
        if not self.interrupted:
            self.ledger.interrupted(number)
        self.interrupted = True
        if scope is not None:
            scope.cancel()

    def _place(self) -> None:
        """Start what fits; a step that is identical to another one leaves its room to the next."""
        while False in {self._start(turn) for turn in self.seats.take()}:
            pass
        if not self.running:
            self._tell_cached()

    def _start(self, turn: Turn) -> bool:
        """Start a step; say whether it needs to run, and no identical one runs or ran already."""
        label = turn.placement.label
        if turn.refused:
            self.seats.drop(turn)
            self.ledger.skipped(label, turn.refused)
            self._fail(label, Failed(turn.refused))
            return False
        recipe = self.graph.recipes[label]
        resolved = with_inputs(self.store.cas, recipe, Digest(turn.input_root.hex()))
        same = self.finished.step(resolved.digest)
        if same is not None:
            self.seats.drop(turn)
            outputs = self.ended.outputs(same)
            self.ledger.realised(label, resolved.digest, outputs)
            self._cached(label, Cached(outputs, resolved.digest))
            return False
        if resolved.digest in self.running:
            self.seats.drop(turn)
            self.running[resolved.digest].labels.append(label)
            return False
        labels = [label, *self.losses.waiting_for(resolved.digest)]
        self.running[resolved.digest] = Running(turn, resolved, labels)
        self.untold.starts(turn, resolved)
        keep = self.options.keep_failed
        run = functools.partial(
            execute,
            self.store.cas,
            self.job.executor,
            recipe,
            resolved,
            keep,
            turn.cpus,
            turn.placement.node,
            turn.placement.cpus,
            self.room,
        )
        sharing = self.options.sharing
        self.crew.start(
            run if sharing is None else functools.partial(sharing.staged, resolved, run)
        )
        return True

    # steps that end

    def _take_in(self, running: Running, outcome: Outcome) -> None:
        recipe = self.graph.recipes[running.labels[0]]
        outcome = unless_inputs_changed(recipe, outcome)
        if outcome.outputs is None:
            self._look_at_the_rest()  # a failure that is none is not told
            if self.error:
                return
        labels, resolved = running.labels, running.resolved
        placement = running.turn.placement
        took = Took(outcome.wall_seconds, placement.cpus, placement.node)
        self.took.ran(placement.label, took, self.clock() - self.began)
        self.ledger.ran(labels, resolved, outcome, self.places.speed_of(placement.node))
        if outcome.outputs is None:
            for label in labels:
                self._fail(label, Failed(outcome.reason, resolved.digest, outcome))
            return
        self.ledger.succeeded(labels, resolved, outcome, outcome.outputs)
        self.finished.note(resolved.digest, labels[0])
        for number, label in enumerate(labels):
            self.ledger.realised(label, resolved.digest, outcome.outputs)
            ended = Built(outcome.outputs, resolved.digest, outcome.wall_seconds)
            shared = Cached(outcome.outputs, resolved.digest)
            self._end(label, shared if number else ended)

    def _cached(self, label: str, step: Cached) -> None:
        self.seats.gone(label)
        self.ledger.cached(label, step)
        self._end(label, step)

    def _end(self, label: str, step: Cached | Built) -> None:
        """Note that a step has outputs and look at those that waited for it."""
        self.ended.put(label, step)
        if self.prefetch.is_useful and isinstance(step, Cached) and any(self.waits.after(label)):
            self.prefetch.needed(label, self.waits.rank(label), step.outputs)
        for dependent in self.waits.end(label):
            if dependent not in self.ended:
                self.settled.append(dependent)

    def _look_at(self, label: str) -> None:
        """Resolve a step whose inputs are known: it is cached, or ready to run."""
        if label in self.ended:
            return
        planned = self.plan.others[label]
        if isinstance(planned, Run) and planned.input_root is not None:
            self._make_ready(label, planned)
            return
        recipe = self.graph.recipes[label]
        try:
            new = self.job.history.is_new(label)
            resolved = resolve(
                self.store.cas, recipe, self.ended.outputs, new=new, merging=self.plan.merging
            )
        except NothingMatchesError as error:
            self.ledger.refused(label, str(error))
            self._fail(label, Failed(str(error)))
            return
        found = find(resolved, self.store)
        if found is not None:
            self.ledger.realised(label, found.action, found.outputs)
            self._cached(label, found)
            return
        why = functools.partial(why_run, label, resolved, self.store, self.job.history)
        step = to_run(resolved, self.untold.reason(label, why))
        sharing = self.options.sharing
        if sharing is None or not sharing.later(label, resolved, step):
            self._make_ready(label, step)

    def _make_ready(self, label: str, step: Run) -> None:
        assert step.input_root is not None
        rank = self.waits.rank(label)
        self.seats.add(label, rank, step.reason, step.input_root)
        if self.prefetch.is_useful:
            toolchains = self.graph.recipes[label].toolchains
            self.prefetch.ready(label, rank, [Digest(step.input_root.hex()), *toolchains])

    def _fail(self, label: str, step: Failed) -> None:
        self.ended.put(label, step)
        self.first_failure = self.first_failure or label
        pending = list(self.waits.after(label))
        while pending:
            dependent = pending.pop()
            if dependent not in self.ended:
                self.ended.put(dependent, Skipped(label))
                self.ledger.skipped(dependent, label)
                pending.extend(self.waits.after(dependent))

    def _end_rest(self) -> None:
        """Say of every step that did not end why."""
        for label in self.plan.others:
            if label not in self.ended:
                failed = None if self.interrupted else self.first_failure
                self.ended.put(label, Skipped(failed) if failed else Cancelled())
                self.ledger.skipped(label, failed or "interrupted")
