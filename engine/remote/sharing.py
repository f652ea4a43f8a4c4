"""What remote caches add to a build: asked before it plans, and while it runs.

Used by the session and the build loop where the store has remotes, and loaded only then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

from engine.crew import Crew, Ending
from engine.graph import Graph
from engine.plan import Cached, Plan, Run
from engine.remembered import Remembered
from engine.remote import lookup
from engine.remote.found import Found
from engine.remote.remotes import Remotes
from engine.resolve import Resolved
from engine.result import BuildStatus, Built, Result
from engine.timeline.events import Event, RemoteFound
from store.cas import MissingBlob
from store.digest import Digest
from store.errors import BnError
from store.objects import ActionResult, Directory, Entry, File, Link
from store.store import Store


class Download(StrEnum):
    """What is fetched of the results that remotes have: all that the build asks for or rests on,
    the targets, or nothing but what an action that runs here needs."""

    ALL = "all"
    TOPLEVEL = "toplevel"
    MINIMAL = "minimal"


Question = tuple[str, Resolved, Run]
"""A step, its action, and that it runs if no remote has its result."""

_GONE: Final = "is neither here nor, any more, at a remote"


class Sharing:
    """The part that remotes have in one build."""

    def __init__(
        self, store: Store, remotes: Remotes, download: str, *, verifying: bool = False
    ) -> None:
        """While `verifying`, nothing is uploaded before `believe` is called."""
        self.remotes = remotes
        self.taken: dict[str, str] = {}
        """The steps whose results came from remotes, and from which."""
        self._verifying = verifying
        self._held: list[tuple[ActionResult, list[Digest], float]] = []
        self._store = store
        self._download = Download(download)
        self._events: deque[Event] = deque()
        self._questions: list[Question] = []
        self._asked: dict[Digest, list[Question]] = {}
        self._answers: dict[Digest, Mapping[Digest, Found]] = {}

    def before_plan(
        self, graph: Graph, labels: Sequence[str], remembered: Remembered | None = None
    ) -> None:
        """Ask for what recipes came to that are not known here."""
        if self.remotes.readable:
            everything = self._verifying or self._download is Download.ALL
            self._events += lookup.realise(
                self.remotes, graph, labels, self._store, remembered, everything=everything
            )

    def after_plan(self, graph: Graph, plan: Plan) -> Plan:
        """Ask for the results of actions that would run, and return the plan with these."""
        if self.remotes.readable:
            plan, events = lookup.settle(self.remotes, graph, plan, self._store)
            self._events += events
        return plan

    def take_events(self) -> Iterator[Event]:
        """Yield what happened since the last call."""
        while self._events:
            event = self._events.popleft()
            if isinstance(event, RemoteFound):
                self.taken |= dict.fromkeys(event.labels, event.remote)
            yield event
        yield from self.remotes.take_events()

    # while it runs

    def later(self, label: str, resolved: Resolved, step: Run) -> bool:
        """Note that remotes are to be asked for a step that would run; False where none can be."""
        if not self.remotes.readable:
            return False
        self._questions.append((label, resolved, step))
        return True

    @property
    def is_asking(self) -> bool:
        """Whether an answer is to come."""
        return bool(self._asked)

    def ask(self, crew: Crew) -> None:
        """Ask for all that was noted, at once, beside what runs."""
        if self._questions:
            questions, self._questions = self._questions, []
            mark = questions[0][1].digest
            self._asked[mark] = questions

            async def carry_out() -> Ending:
                actions = list(dict.fromkeys(resolved.digest for _, resolved, _ in questions))
                try:
                    self._answers[mark] = await self.remotes.results_soon(actions)
                except BnError as error:
                    return mark, error
                return mark, None

            crew.start(carry_out)

    def answered(self, mark: Digest) -> Iterator[tuple[Question, Cached | None]]:
        """Yield for each question what the step came to at some remote, which is kept here now."""
        questions, found = self._asked.pop(mark), self._answers.pop(mark, {})
        labels = {label: found[one.digest] for label, one, _ in questions if one.digest in found}
        self._events += lookup.told(labels)
        for question in questions:
            label, resolved, _ = question
            there = labels.get(label)
            if there is None:
                yield question, None
            else:
                yield question, lookup.keep(self.remotes, self._store, there, resolved)

    def is_question(self, mark: Digest) -> bool:
        """Say whether what ended with this mark was a question."""
        return mark in self._asked

    async def staged(self, resolved: Resolved, run: Callable[[], Awaitable[Ending]]) -> Ending:
        """Run an action once all of its inputs are here."""
        try:
            await self.remotes.bring_soon([Directory(resolved.action.input_root)])
        except BnError as error:
            return resolved.digest, error
        return await run()

    def built(self, result: ActionResult, recipes: Iterable[Digest], seconds: float) -> None:
        """Let others have what was built here in so many seconds."""
        if self._verifying:
            self._held.append((result, list(recipes), seconds))
        else:
            self.remotes.built(result, recipes, seconds)

    def believe(self) -> None:
        """Let others have what was built here, now that what it rests on was verified."""
        self._verifying = False
        held, self._held = self._held, []
        for one in held:
            self.built(*one)

    # at its end

    def deliver(self, graph: Graph, targets: Sequence[str], result: Result) -> None:
        """Fetch what the build is asked to leave here. Raises MissingBlob where it cannot be had
        any more, and HostError."""
        if result.status is not BuildStatus.OK or self._download is Download.MINIMAL:
            return
        labels = [label for target in targets for label in graph.labels_of(target)]
        ended = map(result.steps.get, labels)
        steps = [step for step in ended if isinstance(step, Cached | Built)]
        entries: list[Entry] = [Directory(step.outputs) for step in steps]
        if self._download is Download.ALL:
            entries += self._below(graph, labels)
        self.remotes.bring(entries)
        for entry in entries:
            if not self._store.cas.complete(entry):
                raise MissingBlob(_first_missing(self._store, entry), _GONE)

    def _below(self, graph: Graph, labels: Sequence[str]) -> Iterator[Entry]:
        """Yield what all steps came to that the build rests on, as far as that is known."""
        for label in graph.order(tuple(labels)):
            made = self._store.actions.realisation(graph.digest_of(label))
            if made is not None:
                yield Directory(made.outputs)


def _digest_of(entry: Entry) -> Digest:
    assert not isinstance(entry, Link)
    return entry.digest


def _first_missing(store: Store, entry: Entry) -> Digest:
    """Return the digest of something below `entry` that is missing."""
    cas = store.cas
    pending = [entry]
    while pending:
        match pending.pop():
            case File(digest, size):
                if not cas.complete(File(digest, size)):
                    return digest
            case Directory(digest):
                try:
                    pending += cas.get_tree(digest).entries.values()
                except MissingBlob:
                    return digest
    raise MissingBlob(_digest_of(entry), _GONE)  # another thread saw it go, and it came back
