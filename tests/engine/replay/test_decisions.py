"""Decisions made again from what a build recorded: nothing differs, unless the code does."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.graph import Resources
from engine.pins import Pins
from engine.placement import Node, strategies
from engine.placement.modes import policy_of
from engine.placement.work import ranks
from engine.places import Places, Thread
from engine.policies import MODES, STRATEGIES
from engine.recording import Recording
from engine.replay.decisions import Judged, decide_again, details, document, summary
from engine.seating import _opening, _policy
from engine.seats import Needs, OneNode, Seats, Turn
from engine.several import SeveralNodes
from engine.simulation.hardware import Hardware, Machine
from engine.timeline.events import (
    Event,
    NodeJoined,
    NodeLeft,
    NodeReturned,
    NodesWarm,
    PolicyChosen,
    TurnsTaken,
    to_document,
)
from executors.physics import Heat
from executors.simulated import Simulation
from store.errors import InputError
from store.records import evolve
from tests.engine.placement.graphs import random_work
from tests.engine.simulation.test_executor import Lab, speeds

if TYPE_CHECKING:
    from executors.base import ExecutionRequest
    from tests.engine.conftest import Document, Workshop

POLICIES = (*MODES, *STRATEGIES)
MEMORY = 2**33


def again(events: Iterable[Event]) -> Judged:
    """Make decisions again from what the events are in a timeline."""
    return decide_again("b", (json.loads(json.dumps(to_document(one, 0.0))) for one in events))


def told(shop: Workshop) -> list[Event]:
    return [event for _, event in shop.events]


def layers(argument: str, **more: Any) -> Document:
    """Return a document of three layers of four steps."""
    actions = {}
    for layer in range(3):
        for place in range(4):
            below = [f"s{layer - 1}{place}", f"s{layer - 1}{(place + 1) % 4}"] if layer else []
            actions[f"s{layer}{place}"] = {
                "run": [f"s{layer}{place}", argument],
                "inputs": below,
                "outputs": ["o"],
            } | more
    return {"actions": actions}


def behave(request: ExecutionRequest) -> Simulation:
    number = int(request.label[1:])
    return Simulation(seconds=1 + number * 7 % 5 + number / 64, peak_memory=number << 26)


def several(policy: str, own: bool = True) -> Places:
    """Return three nodes of different speeds and two processors each."""
    known = {"fast": 2.0, "slow": 1.0, "new": None}
    return Places(
        nodes=tuple(
            Node(name=name, cpus=2, memory=MEMORY, free_cpus=2, free_memory=MEMORY, speed=speed)
            for name, speed in known.items()
        ),
        memory=MEMORY,
        policy=policy_of(policy, max_wait=6.0),
        threads={
            name: (Thread(2 * n, n, None), Thread(2 * n + 1, n, None))
            for n, name in enumerate(known)
        },
        own=own,
        asked=True,
        isolated=policy == "target-isolated",
    )


# builds by the loop


@pytest.mark.parametrize("cpus", [1, 3])
def test_on_one_node_the_same_is_decided_again(workshop: Workshop, cpus: int) -> None:
    workshop.behave = behave
    for build in ("once", "again"):  # then it is known how long they take, and how much they hold
        workshop.build(workshop.graph(layers(build, resources={"cpus": 2})), cpus=cpus)
        judged = again(told(workshop))
        assert judged.turns == 12
        assert judged.decisions >= 6
        assert not judged.differences
        assert "all the same today" in summary(judged)


@pytest.mark.parametrize("policy", POLICIES)
def test_on_several_nodes_the_same_is_decided_again(workshop: Workshop, policy: str) -> None:
    workshop.behave = behave
    for build in ("once", "again"):
        workshop.build(workshop.graph(layers(build)), places=several(policy))
        judged = again(told(workshop))
        assert judged.turns == 12
        assert not judged.differences


@pytest.mark.parametrize("policy", POLICIES)
def test_it_is_with_heat_failures_and_drop_outs(workshop: Workshop, policy: str) -> None:
    hot = Heat(full=110.0, throttle_at=90.0, seconds=10.0, every=2.0)
    nodes = (
        *speeds(1.0, 1.5, failures=0.2),
        Machine(name="hot", speed=2.0, cpus=3, heat=hot),
        Machine(name="leaves", speed=3.0, vanish=400.0, back=15.0),
    )
    lab = Lab(workshop, random_work(60, 3), Hardware(nodes=nodes), policy, seed=5)
    lab.build()
    events = [event for _, event in lab.events]
    for kind in (NodesWarm, NodeLeft, NodeReturned):
        assert any(isinstance(event, kind) for event in events), kind
    rows = [row for event in events if isinstance(event, TurnsTaken) for row in event.told]
    assert {"wait", "take", "end", "lost"} <= {row[0] for row in rows}
    judged = again(events)
    assert judged.turns > 60
    assert not judged.differences


def test_steps_that_need_not_run_and_failures_are_told(workshop: Workshop) -> None:
    document = layers("once")
    for name in ("s01", "s02"):  # the same action as the first one
        document["actions"][name]["run"] = document["actions"]["s00"]["run"]

    def fail(request: ExecutionRequest) -> Simulation:
        return evolve_seconds(behave(request), fails=request.label == "s11")

    workshop.behave = fail
    for keep_going in (False, True):
        workshop.build(workshop.graph(document), places=several("smart"), keep_going=keep_going)
        assert not again(told(workshop)).differences


def evolve_seconds(one: Simulation, fails: bool) -> Simulation:
    return Simulation(seconds=one.seconds, exit_code=int(fails))


def test_memory_that_nodes_share(workshop: Workshop) -> None:
    document = layers("once", resources={"memory": "3GB"})
    workshop.behave = behave
    workshop.build(workshop.graph(document), places=several("unified"))
    judged = again(told(workshop))
    assert judged.turns == 12
    assert not judged.differences


# today's code is another


def test_another_strategy_is_found(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.behave = behave
    workshop.build(workshop.graph(layers("once")), places=several("fastest"))
    monkeypatch.setitem(strategies._CHOICES, "fastest", strategies._round_robin)
    judged = again(told(workshop))
    assert judged.differences
    first = judged.differences[0]
    assert (first.at, first.waiting) == (0.0, 4)
    assert first.ready == ("s00", "s01", "s02", "s03")
    assert {one.node for one in first.recorded} != {one.node for one in first.today}
    for one in first.recorded:
        assert one.why["reason"].startswith("longest chain first")
    for one in first.today:
        assert one.why["reason"].endswith("next in turn")
    assert len(judged.differences) < judged.decisions
    assert "differ" in summary(judged)
    assert json.loads(json.dumps(document(judged)))["same"] is False


def test_a_weight_that_differs_is_found(workshop: Workshop) -> None:
    workshop.behave = behave
    workshop.build(workshop.graph(layers("once")), places=several("smart"))
    events = told(workshop)
    assert not again(events).differences
    weights = {"speed": 0.0, "locality": 0.0, "load": 1.0, "price": 0.0}
    changed = [
        evolve(one, policy={**(one.policy or {}), "weights": weights})
        if isinstance(one, PolicyChosen)
        else one
        for one in events
    ]
    judged = again(changed)
    assert judged.differences
    lines = list(details(judged))
    assert lines[0].startswith("after 0.000 s, of s00, s01, s02, s03:")
    assert any(line.startswith("  then   s0") for line in lines)
    assert any(line.startswith("  today  s0") for line in lines)
    assert any("load" in line for line in lines)


def test_on_one_node_another_order_is_found(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.behave = behave
    for build in ("once", "again"):
        workshop.build(workshop.graph(layers(build)), cpus=1)
    add = OneNode.add

    def shortest_first(self: OneNode, label: str, rank: float, reason: str, root: bytes) -> None:
        add(self, label, -rank, reason, root)

    monkeypatch.setattr(OneNode, "add", shortest_first)
    judged = again(told(workshop))
    first = judged.differences[0]
    (then,), (today,) = first.recorded, first.today
    assert then.label == first.ready[0]
    assert today.label == first.ready[-1]
    assert judged.turns == 12
    ways = [one.recorded[0].label for one in judged.differences]
    assert len(set(ways)) == len(ways) < 12  # where one waits alone there is no choice


def test_timelines_of_earlier_versions_say_that_they_lack_it(workshop: Workshop) -> None:
    workshop.build(workshop.graph(layers("once")))
    old = [one for one in told(workshop) if not isinstance(one, PolicyChosen | TurnsTaken)]
    with pytest.raises(InputError, match="does not say what its decisions went by"):
        again(old)
    workshop.build(workshop.graph(layers("once")))  # all is there: nothing was decided
    assert again(told(workshop)).turns == 0


def test_damage_is_said_to_be_that(workshop: Workshop) -> None:
    workshop.build(workshop.graph(layers("once")))
    events = [
        evolve(one, told=one.told[1:]) if isinstance(one, TurnsTaken) else one
        for one in told(workshop)
    ]
    with pytest.raises(InputError, match="does not fit together"):
        again(events)


# made-up courses, straight to the seats


class Course:
    """A build in virtual time by seats that are recorded, of what hypothesis makes up."""

    def __init__(self, data: st.DataObject) -> None:
        draw = self.draw = data.draw
        self.now = 0.0
        self.events: list[Event] = []
        self.work = random_work(draw(st.integers(1, 30)), draw(st.integers(0, 99)))
        labels = self.work.labels
        held = {label: draw(st.sampled_from([0, 0, MEMORY // 3])) for label in labels}
        cpus = {label: draw(st.sampled_from([1, 1, 1, 2])) for label in labels}
        needs = Needs(
            lambda label: Resources(cpus=cpus[label], memory=held[label] or None),
            lambda label: len(label) << 24,
        )
        self.away: set[str] = set()
        places = self.places()
        self.names = [node.name for node in places.nodes]
        inner: Seats
        if draw(st.booleans()):
            one = evolve(places, nodes=places.nodes[:1])
            ahead = draw(st.booleans())
            inner = OneNode(one.nodes[0], needs, Pins.of(one), ahead=ahead)
            policy = evolve(_policy(one), ahead=ahead)
            self.seats = Recording(inner, needs, self.events.append, (policy,))
            places = one
        else:
            inner = SeveralNodes(places, self.work, needs, {}, is_there=self.is_there)
            opening = _opening(places, self.work, {})
            self.seats = Recording(inner, needs, self.events.append, opening)
        self.seats.clock = lambda: self.now
        self.joined: list[Event] = [
            NodeJoined(
                node=one.name,
                cpus=one.cpus,
                memory=one.memory,
                speed=one.speed,
                preference=one.preference,
                only=one.only,
                limit=one.limit,
                price=one.price,
            )
            for one in places.nodes
        ]

    def places(self) -> Places:
        draw = self.draw
        cpus = draw(st.integers(1, 3))
        nodes = tuple(
            Node(
                name=f"n{n}",
                cpus=cpus,
                memory=MEMORY,
                free_cpus=cpus,
                free_memory=MEMORY,
                speed=draw(st.sampled_from([None, 1.0, 1.0, 1.5, 3.0])),
                preference=draw(st.sampled_from(["", "", "preferred", "avoid"])),
            )
            for n in range(draw(st.integers(1, 4)))
        )
        threads = {
            one.name: tuple(Thread(n * cpus + c, n * cpus + c, None) for c in range(cpus))
            for n, one in enumerate(nodes)
        }
        policy = policy_of(
            draw(st.sampled_from(POLICIES)), draw(st.sampled_from([float("inf"), 3.0]))
        )
        return Places(
            nodes=nodes,
            memory=MEMORY,
            policy=policy,
            threads=draw(st.sampled_from([{}, threads])),
            own=draw(st.booleans()),
            asked=True,
        )

    def is_there(self, name: str) -> bool:
        return self.seats.saw(name, name not in self.away)

    def run(self) -> list[Event]:
        work, rank = self.work, ranks(self.work)
        numbers = {label: number for number, label in enumerate(work.labels)}
        missing = [len(needs) for needs in work.needs]
        running: list[tuple[float, str, Turn]] = []
        waiting: set[str] = set()
        ready = [number for number, count in enumerate(missing) if not count]
        for _ in range(6 * len(work)):
            self.happen()
            for number in ready:
                self.seats.add(work.labels[number], rank[number], "new", b"")
                waiting.add(work.labels[number])
            ready = []
            done: list[str] = []
            for turn in self.seats.take():
                label = turn.placement.label
                waiting.remove(label)
                if self.draw(st.integers(0, 9)) == 0:
                    self.seats.drop(turn)
                    done.append(label)
                    continue
                if self.draw(st.integers(0, 5)) == 0:
                    turn = self.seats.move(turn, self.draw(st.sampled_from(self.names))) or turn
                took = work.seconds[numbers[label]] * self.draw(st.sampled_from([0.5, 1.0, 1.7]))
                heapq.heappush(running, (self.now + took, label, turn))
            if running:
                self.now, label, turn = heapq.heappop(running)
                if self.draw(st.integers(0, 7)) == 0:
                    self.seats.lost(turn)
                    ready.append(numbers[label])
                else:
                    self.seats.end(turn, self.draw(st.sampled_from([0.0, 0.0, 0.5])))
                    done.append(label)
            elif not done:
                assert self.away or not waiting
                self.now += 1.0
            for label in done:
                for other in work.after[numbers[label]]:
                    missing[other] -= 1
                    if not missing[other]:
                        ready.append(other)
        self.seats.close()
        return [*self.joined, *self.events]

    def happen(self) -> None:
        """Let nodes get warm, drop out and return."""
        if self.draw(st.integers(0, 3)) == 0:
            degrees = st.sampled_from([None, 60.0, 76.0, 84.0, 90.0])
            self.seats.warm({name: self.draw(degrees) for name in self.names})
        if self.draw(st.integers(0, 5)) == 0:
            self.away.symmetric_difference_update([self.draw(st.sampled_from(self.names))])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_happens_is_decided_alike_again(data: st.DataObject) -> None:
    events = Course(data).run()
    judged = again(events)
    assert judged.turns
    assert not judged.differences


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(POLICIES))
def test_each_decision_is_judged_on_what_was(data: st.DataObject, other: str) -> None:
    events = Course(data).run()
    changed = [
        evolve(one, policy={**one.policy, "strategy": policy_of(other).strategy})
        if isinstance(one, PolicyChosen) and one.policy
        else one
        for one in events
    ]
    first, judged = again(events), again(changed)
    assert (judged.decisions, judged.turns) == (first.decisions, first.turns)
    for one in judged.differences:
        assert {each.label for each in (*one.recorded, *one.today)} <= set(one.ready)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_one_decision_that_differs_is_the_only_one_that_is_told(data: st.DataObject) -> None:
    """Where one decision starts nothing, what was decided then happens; all others are alike."""
    events = Course(data).run()
    decisions, chosen = 0, data.draw(st.integers(0, 20))
    take = SeveralNodes.take

    def idle_once(self: SeveralNodes) -> list[Turn]:
        nonlocal decisions
        waited, clock = dict(self._waiting), self.clock
        turns = take(self)
        decisions += bool(turns)
        if not turns or decisions != chosen + 1:
            return turns
        for turn in turns:
            self.undo(turn)
            step, reason, input_root, since, _ = waited[turn.placement.label]
            self.clock = partial(float, since)
            self.add(step.label, step.rank, reason, input_root)
            self.clock = clock
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeveralNodes, "take", idle_once)
        judged = again(events)
    assert len(judged.differences) <= 1
    for one in judged.differences:
        assert one.recorded
        assert not one.today
