"""Decisions made again: what a build's timeline says that its seats were told, told to those of
today, and what they decide compared with what was decided then.

Where it differs, what was decided then happens nevertheless: so each decision is judged by itself,
on the state in which the build was.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import asdict, evolve, field, frozen

from engine.graph import Resources
from engine.pins import Pins
from engine.placed import in_words
from engine.placement import Explanation, Node, Placement, Policy
from engine.placement.model import Weights
from engine.placement.work import Work, make_work
from engine.places import Places, Thread
from engine.seats import Needs, OneNode, Turn
from engine.several import SeveralNodes
from engine.timeline.events import (
    Event,
    NodeJoined,
    NodeLeft,
    NodeReturned,
    NodesWarm,
    PolicyChosen,
    StepStarted,
    TurnMoved,
    TurnsTaken,
    WorkKnown,
    from_document,
)
from store.errors import InputError

READY: Final = 256
"""Steps that waited at a decision of which a report names so many, the first in line first."""

SHOWN: Final = 8
"""Of these, how many a text names."""


@frozen
class Decided:
    """A step that was to start: where, with how many processors and bytes, pinned to which
    processors, and why, as plain values (nothing where the timeline does not say)."""

    label: str
    node: str
    cpus: int = 1
    memory: int = 0
    pinned: tuple[int, ...] = ()
    why: Mapping[str, Any] = field(factory=dict, eq=False)


@frozen
class Difference:
    """A decision that comes out otherwise: seconds after the first one, how many steps waited, the
    first of them, what started then and would not today, and what would start today instead."""

    at: float
    waiting: int
    ready: tuple[str, ...]
    recorded: tuple[Decided, ...]
    today: tuple[Decided, ...]


@frozen
class Judged:
    """The decisions of a build, made again: how often it was decided, and how many steps were given
    a turn."""

    build: str
    decisions: int
    turns: int
    differences: tuple[Difference, ...]


def decide_again(build: str, timeline: Iterable[Mapping[str, Any]]) -> Judged:
    """Make the decisions of a recorded build again. Raises InputError where its timeline does not
    say what they went by."""
    events = [event for event in map(from_document, timeline) if event is not None]
    started = [event for event in events if isinstance(event, StepStarted)]
    policy = next((event for event in events if isinstance(event, PolicyChosen)), None)
    if policy is None:
        if not started:
            return Judged(build, 0, 0, ())
        raise InputError(
            f"the timeline of build {build} does not say what its decisions went by",
            "an earlier version of bn wrote it: build again, and ask for that build",
        )
    try:
        return _Course(build, policy, events).run()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        message = f"what the timeline of build {build} says of decisions does not fit together"
        raise InputError(f"{message}: {error!r}", f"`bn timeline verify {build}`") from error


class _Course:
    """A build's decisions on their way: the seats, and what they were told."""

    def __init__(self, build: str, policy: PolicyChosen, events: Sequence[Event]) -> None:
        self._build = build
        self._events = events
        self._now = 0.0
        self._began = math.nan
        self._decisions = self._given = 0
        self._away: set[str] = set()
        self._waiting: set[str] = set()
        self._added: dict[str, tuple[float, float]] = {}
        """Ranks of the steps that waited or do so, and since when."""
        self._needed: dict[str, tuple[int, int, bool]] = {}
        self._turns: dict[str, Turn] = {}
        self._why: dict[str, deque[Mapping[str, Any]]] = {}
        self._differences: list[Difference] = []
        for event in events:
            if isinstance(event, StepStarted) and isinstance(event.placement, dict):
                self._why.setdefault(event.label, deque()).append(event.placement)
        self._seats = self._seats_of(policy)
        self._seats.clock = lambda: self._now

    def run(self) -> Judged:
        """Go through the events."""
        for event in self._events:
            match event:
                case TurnsTaken(told=told):
                    for kind, *row in told:
                        self._told(kind, row)
                case NodesWarm(at=at, celsius=celsius):
                    self._now = at
                    self._seats.warm(celsius)
                case NodeLeft(node=node):
                    self._away.add(node)
                case NodeReturned(node=node):
                    self._away.discard(node)
                case TurnMoved(label=label, node=node, at=at):
                    self._now = at
                    self._move(label, node)
        return Judged(self._build, self._decisions, self._given, tuple(self._differences))

    def _seats_of(self, chosen: PolicyChosen) -> OneNode | SeveralNodes:
        nodes = tuple(_nodes(self._events, chosen))
        places = Places(
            nodes=nodes,
            memory=chosen.memory,
            policy=_policy(chosen.policy or {}),
            threads={
                node: tuple(Thread(*one) for one in some) for node, some in chosen.pins.items()
            },
            own=chosen.own,
            asked=True,
            no_heat=chosen.no_heat,
        )
        needs = _Needed(self._needed)
        if chosen.policy is None:
            return OneNode(nodes[0], needs, Pins.of(places), ahead=chosen.ahead)
        work, classes = _work(self._events)
        return SeveralNodes(
            places, work, needs, classes, is_there=lambda name: name not in self._away
        )

    def _told(self, kind: str, row: Sequence[Any]) -> None:
        if kind == "gone":
            self._seats.gone(row[0])
            return
        self._now = row[0]
        match kind, row[1:]:
            case "wait", [label, rank, *needs]:
                self._needed[label] = _needs(*needs)
                self._added[label] = rank, self._now
                self._waiting.add(label)
                self._seats.add(label, rank, "", b"")
            case "take", [*turns]:
                self._take([_decided(*one) for one in turns[0]] if turns else [])
            case "end", [label, *blame]:
                self._seats.end(self._turns.pop(label), *blame)
            case "drop", [label]:
                self._seats.drop(self._turns.pop(label))
            case "lost", [label]:
                self._seats.lost(self._turns.pop(label))
            case _:
                raise ValueError(f"{kind} {row}")

    def _take(self, recorded: Sequence[Decided]) -> None:
        """Have a decision made again, and have what was decided then happen."""
        if math.isnan(self._began):
            self._began = self._now
        found = {turn.placement.label: turn for turn in self._seats.take()}
        self._decisions += 1
        self._given += len(recorded)
        then = {one.label: one for one in recorded}
        today = {label: _of(turn) for label, turn in found.items()}
        other = [one for label, one in then.items() if today.get(label) != one]
        instead = [one for label, one in today.items() if then.get(label) != one]
        if other or instead:
            self._differ(other, instead)
        else:
            for label in then:
                self._said(label)
        for one in instead:
            self._undo(found.pop(one.label))
        for one in other:
            found[one.label] = self._force(one)
        self._waiting -= found.keys()
        self._turns |= found

    def _differ(self, other: Sequence[Decided], instead: Sequence[Decided]) -> None:
        told = tuple(evolve(one, why=self._said(one.label)) for one in other)
        ready = sorted(self._waiting, key=lambda label: (-self._added[label][0], label))
        self._differences.append(
            Difference(
                at=self._now - self._began,
                waiting=len(ready),
                ready=tuple(ready[:READY]),
                recorded=told,
                today=tuple(instead),
            )
        )

    def _said(self, label: str) -> Mapping[str, Any]:
        """Return why a step started, as was said then: the next time that was said of it."""
        said = self._why.get(label)
        return said.popleft() if said else {}

    def _undo(self, turn: Turn) -> None:
        label, now = turn.placement.label, self._now
        self._seats.undo(turn)
        rank, self._now = self._added[label]
        self._seats.add(label, rank, "", b"")
        self._now = now

    def _force(self, one: Decided) -> Turn:
        placement = Placement(
            label=one.label,
            node=one.node,
            cpus=one.cpus,
            memory=one.memory,
            explanation=Explanation(reason="as it was decided then"),
        )
        return self._seats.force(placement, one.pinned)

    def _move(self, label: str, node: str) -> None:
        turn = self._turns[label]
        moved = self._seats.move(turn, node)
        if moved is None:
            self._undo(turn)
            moved = self._force(evolve(_of(turn), node=node))
        self._turns[label] = moved


class _Needed(Needs):
    """What steps hold, as it was recorded."""

    def __init__(self, known: Mapping[str, tuple[int, int, bool]]) -> None:
        super().__init__(lambda _: Resources())
        self._known = known

    def of(self, label: str) -> tuple[int, int, bool]:
        """Return processors, bytes, and whether the bytes are from history."""
        return self._known[label]


def _nodes(events: Iterable[Event], chosen: PolicyChosen) -> Iterator[Node]:
    for event in events:
        if isinstance(event, NodeJoined):
            yield Node(
                name=event.node,
                cpus=event.cpus,
                memory=event.memory,
                free_cpus=event.cpus,
                free_memory=event.memory,
                speed=event.speed,
                limit=event.limit,
                preference=event.preference,
                only=tuple(chosen.only.get(event.node, ())),
                price=event.price,
            )


def _policy(members: Mapping[str, Any]) -> Policy:
    """Return a policy as it was recorded; what is no longer known of one is left out."""
    known = {name: members[name] for name in ("strategy", "window", "heat") if name in members}
    if members.get("max_wait") is not None:
        known["max_wait"] = members["max_wait"]
    if "weights" in members:
        known["weights"] = Weights(**members["weights"])
    return Policy(**known)


def _work(events: Iterable[Event]) -> tuple[Work, dict[str, str]]:
    """Return the steps that were known from the beginning, and their classes."""
    labels: list[str] = []
    seconds: list[float] = []
    needs: list[Sequence[int]] = []
    classes: dict[str, str] = {}
    for event in events:
        if isinstance(event, WorkKnown):
            labels += event.labels
            seconds += event.seconds
            needs += event.needs
            classes |= zip(event.labels, event.classes, strict=False)
    named = {
        label: [labels[one] for one in some] for label, some in zip(labels, needs, strict=True)
    }
    return make_work(dict(zip(labels, seconds, strict=True)), named), classes


def _needs(cpus: int = 1, memory: int = 0, learned: bool = False) -> tuple[int, int, bool]:
    return cpus, memory, learned


def _decided(
    label: str, node: str, cpus: int = 1, memory: int = 0, pinned: Sequence[int] = ()
) -> Decided:
    return Decided(label, node, cpus, memory, tuple(pinned))


def _of(turn: Turn) -> Decided:
    one = turn.placement
    return Decided(one.label, one.node, one.cpus, one.memory, turn.cpus, turn.why)


# reports


def document(judged: Judged) -> dict[str, Any]:
    """Return the JSON form of what came of it."""
    return {**asdict(judged), "same": not judged.differences}


def summary(judged: Judged) -> str:
    """Return what came of it in a line."""
    differ = len(judged.differences)
    came = f"{differ} differ" if differ else "all the same today"
    return f"{judged.build}: {judged.decisions} decisions, {judged.turns} turns; {came}"


def details(judged: Judged) -> Iterator[str]:
    """Yield in words, line by line, what differs."""
    for one in judged.differences:
        rest = one.waiting - SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        yield f"after {one.at:.3f} s, of {', '.join(one.ready[:SHOWN])}{more}:"
        yield from _told("then", one.recorded)
        yield from _told("today", one.today)


def _told(when: str, decided: Sequence[Decided]) -> Iterator[str]:
    if not decided:
        yield f"  {when:6} nothing else"
    for one in decided:
        held = f", {one.cpus} processors" if one.cpus > 1 else ""
        pinned = f" ({', '.join(map(str, one.pinned))})" if one.pinned else ""
        yield f"  {when:6} {one.label} on {one.node}{held}{pinned}"
        for text in in_words(one.why) if one.why else ():
            yield f"           {text}"
