"""What is written down of a build while it goes on: events, histories, results, realisations."""

from __future__ import annotations

import functools
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from engine.begun import begun
from engine.execution import finished
from engine.history import Past
from engine.job import Job
from engine.kept_plan import Standing
from engine.plan import Cached
from engine.prefetch import Prefetch
from engine.resolve import Resolved
from engine.result import Built, Cancelled, Failed, Result, Skipped
from engine.seats import Turn
from engine.timeline.events import (
    TOGETHER,
    BuildFinished,
    Interrupted,
    NodeJoined,
    StepCached,
    StepRefused,
    StepsCached,
    StepSkipped,
    StepStarted,
    TierDropped,
    cached_together,
)
from executors.base import Outcome
from store.digest import Digest
from store.objects import ActionResult, Realisation
from store.records import define, field

MOST_LATER: Final = 32
"""What may wait to be written."""

_COLUMNS: Final = ("labels", "actions", "outputs", "recipes")


@define(eq=False)
class Ledger:
    """Writes down what the loop of a build says. Results are durable with the next commit.

    Events are told at once; `then` has written what is kept for later builds.
    """

    job: Job
    then: Callable[[Callable[[], None]], object] = field(default=lambda entry: entry())

    def begins(self) -> None:
        """Tell that the build begins."""
        job = self.job
        job.emit(begun(job.build, job.graph, job.plan, job.options.asked))
        for node in job.places.nodes:
            job.emit(
                NodeJoined(
                    node=node.name,
                    cpus=node.cpus,
                    memory=node.memory,
                    speed=node.speed,
                    preference=node.preference,
                    only=node.only,
                    limit=node.limit,
                    price=node.price,
                )
            )

    def ends(self, result: Result) -> None:
        """Tell that the build ended, with the number of steps by how they did."""
        makespan = result.makespan
        kinds = (Cached, Built, Failed, Skipped, Cancelled)
        counts = {kind.__name__.lower(): result.count(kind) for kind in kinds}
        self.job.emit(
            BuildFinished(
                build=self.job.build,
                status=result.status,
                counts=counts,
                seconds=result.seconds,
                makespan=makespan.document() if makespan else None,
            )
        )

    def were_cached(self, steps: Mapping[str, Cached]) -> None:
        """Tell of steps that were cached to begin with."""
        history, emit = self.job.history, self.job.emit
        news = history.news({label: step.action for label, step in steps.items()})
        recipe = self.job.graph.digest_of
        rows = ((name, step.action, step.outputs, recipe(name)) for name, step in steps.items())
        for event in cached_together(rows):
            emit(event)
        for label, step in steps.items():
            if label in news:
                self._note(label, Past(action=step.action, build=self.job.build))

    def stand(self, steps: Standing, is_told: bool) -> None:
        """Tell of steps that came to what they came to before; `is_told` says that their histories
        tell so already."""
        labels, actions, *_ = columns = steps.columns()
        for first in range(0, len(labels), TOGETHER):
            some = (tuple(column[first : first + TOGETHER]) for column in columns)
            self.job.emit(StepsCached(**dict(zip(_COLUMNS, some, strict=True))))
        if is_told:
            return
        for label in self.job.history.news(dict(zip(labels, map(Digest, actions), strict=True))):
            self._note(label, Past(action=steps[label].action, build=self.job.build))

    def cached(self, label: str, step: Cached) -> None:
        """Tell of a step that turned out to be cached."""
        recipe = self.job.graph.digest_of(label)
        self.job.emit(
            StepCached(label=label, action=step.action, outputs=step.outputs, recipe=recipe)
        )
        self._note(label, Past(action=step.action, build=self.job.build))

    def realised(self, label: str, action: Digest, outputs: Digest) -> None:
        """Keep what the recipe of a step came to."""
        self.then(functools.partial(self._realise, label, action, outputs))

    def starts(self, turn: Turn, resolved: Resolved, why: Callable[[], str] | None = None) -> None:
        """Tell that a step runs now; `why` says for which reason, if the turn does not."""
        label = turn.placement.label
        self.job.emit(
            StepStarted(
                label=label,
                action=resolved.digest,
                reason=turn.reason if why is None else why(),
                placement=turn.why,
                recipe=self.job.graph.digest_of(label),
                needs=tuple(self.job.graph.needs_of(label)),
            )
        )

    def ran(
        self, labels: Sequence[str], resolved: Resolved, outcome: Outcome, speed: float = 0.0
    ) -> None:
        """Note that an action ran which these steps are, on a node of that speed (BPU; 0: not
        measured), and tell of it."""
        for label in labels:
            past = Past(
                action=resolved.digest,
                build=self.job.build,
                ran=True,
                failed=outcome.outputs is None,
                seconds=outcome.wall_seconds,
                peak_memory=outcome.peak_memory,
                log=outcome.log,
                speed=speed,
            )
            self._note(label, past)
        if outcome.outputs is None:
            self.job.store.cas.put_object(resolved.action.encode())
        self.job.emit(finished(labels[0], resolved.digest, outcome))

    def succeeded(
        self, labels: Sequence[str], resolved: Resolved, outcome: Outcome, outputs: Digest
    ) -> None:
        """Keep the result of an action that these steps are, and let others have it."""
        result = ActionResult(
            action=resolved.digest, outputs=outputs, log=outcome.log, observed=outcome.observed
        )
        actions = self.job.store.actions
        self.then(functools.partial(actions.record, resolved.action, result, resolved.inputs))
        sharing = self.job.options.sharing
        if sharing is not None:
            recipes = map(self.job.graph.digest_of, labels)
            sharing.built(result, recipes, outcome.wall_seconds)

    def refused(self, label: str, reason: str) -> None:
        """Tell of a step that failed before it could begin."""
        graph = self.job.graph
        recipe, needs = graph.digest_of(label), tuple(graph.needs_of(label))
        self.job.emit(StepRefused(label=label, reason=reason, recipe=recipe, needs=needs))

    def skipped(self, label: str, because: str) -> None:
        """Tell of a step that was not tried, or not to its end."""
        needs = tuple(self.job.graph.needs_of(label))
        self.job.emit(StepSkipped(label=label, because=because, needs=needs))

    def interrupted(self, number: int) -> None:
        """Tell that a signal of this number ended the build."""
        self.job.emit(Interrupted(signal=signal.Signals(number).name))

    def look(self, prefetch: Prefetch) -> None:
        """Tell of what was promoted, what remotes did, and which tiers dropped out, since the last
        look."""
        emit, sharing = self.job.emit, self.job.options.sharing
        for promoted in prefetch.take():
            emit(promoted)
        if sharing is not None:
            for event in sharing.take_events():
                emit(event)
        for incident in self.job.store.cas.incidents():
            emit(TierDropped(tier=incident.tier, state=incident.state, reason=incident.reason))

    def _note(self, label: str, past: Past) -> None:
        self.then(functools.partial(self._keep, label, past))

    def _keep(self, label: str, past: Past) -> None:
        self.job.store.actions.also(self.job.history.note(label, past))

    def _realise(self, label: str, action: Digest, outputs: Digest) -> None:
        recipe = self.job.graph.digest_of(label)
        self.job.store.actions.record_realisation(
            Realisation(recipe=recipe, action=action, outputs=outputs)
        )


class Later:
    """What is kept for later builds, written in order when there is nothing to do but to wait:
    where steps run one after another, the next one need not wait for what is kept of the last."""

    def __init__(self, meanwhile: Callable[[Callable[[], None]], object]) -> None:
        """`meanwhile` has something done while nothing else can be."""
        self._meanwhile = meanwhile
        self._entries: deque[Callable[[], None]] = deque()

    def then(self, entry: Callable[[], None]) -> None:
        """Have something done after all that was to be done before."""
        self._entries.append(entry)
        self._meanwhile(self._do_next)
        if len(self._entries) > MOST_LATER:
            self._do_next()

    def finish(self) -> None:
        """Do all that waits."""
        while self._entries:
            self._entries.popleft()()

    def _do_next(self) -> None:
        if self._entries:
            self._entries.popleft()()
