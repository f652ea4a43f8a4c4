"""The turnstile: no more commands run than there is room for, and none waits when there is some."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from executors.base import ExecutionRequest, Limits, Outcome, Status
from executors.sandbox import Sandbox
from executors.turnstile import Pass, Turnstile
from store.digest import Digest
from store.records import evolve
from store.store import Store
from tests.conftest import Runner


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), max_size=30), st.integers(1, 3))
def test_room_is_used_and_kept_to(asked: list[tuple[int, int]], room: int) -> None:
    turnstile = Turnstile()
    order: list[int] = []
    inside: list[tuple[int, Pass]] = []
    for number, (share, leaving) in enumerate(asked):
        inside.append(
            (number, turnstile.enter(functools.partial(order.append, number), share, room))
        )
        for _ in range(leaving):
            started = [one for one in inside if one[1].since is not None]
            held = sum(one.share for _, one in started)
            assert held <= room or len(started) == 1
            waiting = [one for one in inside if one[1].since is None]
            assert not waiting or held + waiting[0][1].share > room
            if inside:
                turnstile.leave(inside.pop(leaving % len(inside))[1])
    assert order == sorted(order)


def test_without_a_room_nobody_waits() -> None:
    turnstile = Turnstile()
    assert all(turnstile.enter(lambda: None).since is not None for _ in range(10))


@pytest.fixture
def cells(store: Store, tools: Digest) -> Iterator[Runner]:
    """The executor that stages actions before there is room for them."""
    with contextlib.closing(Sandbox(store)) as executor:
        yield Runner(store, executor, tools)


def asked(cells: Runner, script: str, limits: Limits | None = None) -> ExecutionRequest:
    return evolve(cells.request(script, limits=limits), room=1)


async def all_of(cells: Runner, requests: list[ExecutionRequest]) -> list[Outcome]:
    """Run all at once, each begun after the one before it; return what came of them in order."""
    found: dict[int, Outcome] = {}

    async def one(number: int) -> None:
        found[number] = await cells.executor.execute(requests[number])

    async with trio.open_nursery() as nursery:
        for number in range(len(requests)):
            nursery.start_soon(one, number)
            await trio.sleep(0.05)
    return [found[number] for number in range(len(requests))]


TIMES = "read a b </proc/uptime; echo $a; sleep 0.2; read a b </proc/uptime; echo $a"


async def check_one_at_a_time(cells: Runner) -> None:
    outcomes = await all_of(cells, [asked(cells, TIMES) for _ in range(4)])
    times = sorted(tuple(map(float, cells.log(outcome).split())) for outcome in outcomes)
    for (_, end), (begin, _) in itertools.pairwise(times):
        assert begin >= end


async def test_commands_run_one_at_a_time_where_there_is_room_for_one(cells: Runner) -> None:
    await check_one_at_a_time(cells)


async def test_so_do_bubblewraps_where_there_are_no_cells(
    cells: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells.executor, "_plain", True)
    await check_one_at_a_time(cells)


async def test_the_time_that_it_waits_does_not_count(cells: Runner) -> None:
    long = asked(cells, "sleep 0.8")
    short = asked(cells, "sleep 0.2; echo ran", Limits(wall_seconds=0.6))
    first, second = await all_of(cells, [long, short])
    assert first.status is second.status is Status.SUCCEEDED
    assert 0.2 <= second.wall_seconds < 0.6


async def test_one_that_goes_over_its_time_makes_room(cells: Runner) -> None:
    endless = asked(cells, "sleep 100", Limits(wall_seconds=0.4))
    first, second = await all_of(cells, [endless, asked(cells, "echo ran")])
    assert first.status is Status.KILLED
    assert cells.log(second) == "ran\n"


async def test_who_is_cancelled_while_it_waits_never_runs(cells: Runner) -> None:
    ran = []
    async with trio.open_nursery() as nursery:

        async def first() -> None:
            ran.append(cells.log(await cells.executor.execute(asked(cells, "sleep 0.5; echo one"))))

        async def second() -> None:
            with trio.move_on_after(0.2):
                await cells.executor.execute(asked(cells, "echo never"))
                ran.append("never")

        nursery.start_soon(first)
        await trio.sleep(0.1)
        nursery.start_soon(second)
    assert ran == ["one\n"]
    assert (await cells.says("echo next")) == "next\n"
