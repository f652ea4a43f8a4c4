"""Seats: room, memory as it was learned, and what a step waited for, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import define

from engine.graph import Resources
from engine.pins import Pins
from engine.placement import Node
from engine.placement.work import make_work
from engine.places import Places, Thread
from engine.seats import MUCH, QUICK, Needs, OneNode, Seats, Turn
from engine.several import SeveralNodes
from executors.simulated import Simulation

if TYPE_CHECKING:
    from executors.base import ExecutionRequest
    from tests.engine.conftest import Workshop

GB = 1 << 30


@define
class Time:
    """A clock that is set."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def node(name: str = "local", cpus: int = 2, memory: int = 4 * GB, **more: Any) -> Node:
    return Node(name=name, cpus=cpus, memory=memory, free_cpus=cpus, free_memory=memory, **more)


def needs(memory: Mapping[str, int], learned: Mapping[str, int] | None = None) -> Needs:
    known = learned or {}

    def resources(label: str) -> Resources:
        return Resources(memory=memory.get(label))

    return Needs(resources, lambda label: known.get(label, 0))


def one_node(wanted: Needs, **more: Any) -> tuple[OneNode, Time]:
    seats, time = OneNode(node(**more), wanted), Time()
    seats.clock = time
    return seats, time


def several(wanted: Needs, *labels: str) -> tuple[SeveralNodes, Time]:
    """Return seats on two nodes of one machine with 4 GB."""
    places = Places(
        nodes=(node("local.performance", speed=2.0), node("local.efficiency", speed=1.0)),
        memory=4 * GB,
        threads={
            "local.performance": (Thread(0, 0, 0), Thread(1, 1, 0)),
            "local.efficiency": (Thread(2, 2, 0), Thread(3, 3, 0)),
        },
        own=True,
    )
    time = Time()
    work = make_work(dict.fromkeys(labels, 1.0), {})
    return SeveralNodes(places, work, wanted, {}, time), time


def add(seats: Seats, *labels: str) -> None:
    for label in labels:
        seats.add(label, 1.0, "new", b"")


def names(turns: list[Turn]) -> list[str]:
    return [turn.placement.label for turn in turns]


def test_longest_chain_first_and_the_rest_waits() -> None:
    seats, time = one_node(needs({}))
    add(seats, "a", "b", "c")
    first = seats.take()
    assert names(first) == ["a", "b"]
    assert seats.take() == []
    time.now = 3.0
    seats.end(first[1])
    (late,) = seats.take()
    assert (late.placement.label, late.why["waited"]) == ("c", 3.0)
    assert (late.why["for"], late.why["until"]) == ("processors", "b")


def test_declared_memory_is_not_given_twice() -> None:
    seats, time = one_node(needs({"a": 3 * GB, "b": 2 * GB}))
    add(seats, "a", "b")
    (first,) = seats.take()
    assert seats.take() == []
    time.now = 2.0
    seats.end(first)
    (late,) = seats.take()
    assert (late.why["for"], late.why["memory"]) == ("memory", 2 * GB)
    assert "learned" not in late.why


def test_what_it_took_last_is_what_it_needs_where_nothing_is_declared() -> None:
    seats, _ = one_node(needs({"b": GB}, learned={"a": 3 * GB, "b": 3 * GB}))
    add(seats, "a", "b")
    (first,) = seats.take()
    assert first.placement.memory == int(3 * GB * Needs.MARGIN)
    assert first.why["learned"]
    small, _ = one_node(needs({}, learned={"a": MUCH // 2}))
    add(small, "a")
    assert "memory" not in small.take()[0].why


def test_what_is_larger_than_the_node_gets_all_of_it() -> None:
    seats, _ = one_node(needs({}, learned={"a": 100 * GB}))
    add(seats, "a")
    (turn,) = seats.take()
    assert turn.placement.memory == 4 * GB


def test_room_of_what_need_not_run_is_free_again() -> None:
    seats, _ = one_node(needs({}), cpus=1)
    add(seats, "a", "b")
    (turn,) = seats.take()
    seats.drop(turn)
    assert names(seats.take()) == ["b"]


def ahead(pins: Pins | None = None) -> tuple[OneNode, Time]:
    """Return the seats of two processors on which steps may be begun ahead."""
    seats, time = OneNode(node(), needs({}), pins, ahead=True), Time()
    seats.clock = time
    return seats, time


def test_while_steps_are_quick_the_next_ones_are_begun_ahead() -> None:
    seats, time = ahead()
    add(seats, *"abcdefghijklm")
    first, second = seats.take()
    time.now = QUICK
    seats.end(first)
    assert names(seats.take()) == ["c"]  # one alone says little
    seats.end(second)
    begun = seats.take()
    assert names(begun) == ["d", "e", "f"]
    assert seats.take() == []
    time.now = 3 * QUICK
    seats.end(begun[0])  # it took long: no more than there are processors from now on
    assert seats.take() == []
    for turn in begun[1:]:
        time.now += QUICK / 4
        seats.end(turn)
    assert names(seats.take()) == ["g"]
    seats.close()


def test_on_an_idle_node_as_many_start_as_there_are_processors() -> None:
    seats, time = ahead()
    add(seats, *"ab")
    for turn in seats.take():
        seats.end(turn)
    add(seats, *"cdef")
    assert names(seats.take()) == ["c", "d"]
    assert names(seats.take()) == ["e", "f"]
    time.now = 1.0


def test_what_is_pinned_is_not_begun_ahead() -> None:
    seats, _ = ahead(Pins({"local": (Thread(0, 0, 0), Thread(1, 1, 0))}, own=True))
    add(seats, *"abcdef")
    for _ in range(2):
        for turn in seats.take():
            seats.end(turn)
    assert len(seats.take()) == 2
    assert seats.take() == []


def test_pins_are_given_back() -> None:
    pins = Pins({"local": (Thread(0, 0, 0), Thread(1, 1, 0))}, own=True)
    seats = OneNode(node(), needs({}), pins)
    add(seats, "a", "b", "c")
    first, second = seats.take()
    assert {first.cpus, second.cpus} == {(0,), (1,)}
    seats.end(first)
    (third,) = seats.take()
    assert third.cpus == first.cpus == tuple(third.why["cpus"])


def test_several_nodes_the_faster_one_first_each_on_its_own_processors() -> None:
    seats, _ = several(needs({}), *"abcd")
    add(seats, *"abcd")
    turns = seats.take()
    assert sorted(cpu for turn in turns for cpu in turn.cpus) == [0, 1, 2, 3][: len(turns)]
    assert {turn.placement.node for turn in turns[:2]} == {"local.performance"}
    assert turns[0].why["node"] == "local.performance"


def test_several_nodes_share_the_memory_of_their_machine() -> None:
    seats, time = several(needs(dict.fromkeys("abc", 3 * GB)), *"abcd")
    add(seats, *"abcd")
    turns = seats.take()
    held = [turn for turn in turns if turn.placement.memory]
    assert len(held) == 1
    order = [held[0].placement.label]
    for now in (1.0, 2.0):
        time.now = now
        seats.end(held[0])
        held = [turn for turn in seats.take() if turn.placement.memory]
        assert len(held) == 1
        assert held[0].why["for"] == "memory"
        order.append(held[0].placement.label)
    assert order == ["a", "b", "c"]


def test_more_than_fits_at_once_starts_one_after_another_and_none_twice() -> None:
    wanted = needs(dict.fromkeys("abcdefgh", int(1.4 * GB)))
    seats, time = several(wanted, *"abcdefghijkl")
    add(seats, *"abcdefgh")
    order: list[str] = []
    running: list[Turn] = []
    for late in ["i", "j", "k", "l", *[""] * 8]:
        if late:
            add(seats, late)
        running += (turns := seats.take())
        order += names(turns)
        assert sum(turn.placement.memory for turn in running) <= 4 * GB
        if running:
            seats.end(running.pop(0))
        time.now += 1
    assert sorted(order) == list("abcdefghijkl")
    assert not running
    large = [label for label in order if label in "abcdefgh"]
    assert large == list("abcdefgh")


def test_room_is_kept_for_what_was_put_aside_first() -> None:
    seats, _ = several(needs({"a": 3 * GB, "b": 4 * GB, **dict.fromkeys("cde", GB)}), *"abcdef")
    add(seats, "a", "f")
    first, small = seats.take()
    add(seats, "b")
    assert seats.take() == []
    for label in "cde":
        add(seats, label)
        assert seats.take() == []  # it would fit, but b has waited for longer
    seats.end(small)
    assert seats.take() == []
    seats.end(first)
    (large,) = seats.take()
    assert large.placement.label == "b"
    seats.end(large)
    assert names(seats.take()) == ["c", "d", "e"]


def test_several_nodes_go_on_where_steps_need_not_run() -> None:
    seats, time = several(needs({}), *"abcdef")
    add(seats, *"abcde")
    seats.gone("f")
    started: list[str] = []
    while turns := seats.take():
        seats.drop(turns[0])
        started += names(turns)
        time.now += 1
        for turn in turns[1:]:
            seats.end(turn)
    assert sorted(started) == list("abcde")


def test_builds_learn_memory_and_tell_of_waits(workshop: Workshop) -> None:
    document = {
        "actions": {name: {"tools": ["sh"], "script": f"{name} 1"} for name in "ab"},
        "toolchains": {"sh": "sh.toml"},
    }

    def behave(_: ExecutionRequest) -> Simulation:
        return Simulation(seconds=10, peak_memory=12 * GB)

    workshop.behave = behave
    graph = workshop.graph(document)
    assert workshop.build(graph).makespan is not None
    finished = workshop.events[-1]
    assert finished[0] < 11
    document["actions"] = {name: {"tools": ["sh"], "script": f"{name} 2"} for name in "ab"}
    result = workshop.build(workshop.graph(document))
    makespan = result.makespan
    assert makespan is not None
    assert round(makespan.seconds) == 20
    assert round(makespan.bound) == 10
